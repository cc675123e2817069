/*
 * NucliSeg QP: import nuclei
 *
 * Puts the nuclei that nucliseg-qp found into the open image. Run it from the script editor for one
 * image, or with "Run for project" for all. It reads the folder "nucliseg" beside the project file.
 *
 * Nuclei of an earlier import stay as they are, unless "renew" below is true: then those that nobody
 * changed make room for the new ones. Kept are nuclei that were reclassified, moved, redrawn, locked or
 * added; nuclei that were deleted are not added again, and none is added on top of one that is kept.
 *
 * Works in QuPath 0.5.1, 0.6 and 0.7, with and without the graphical interface.
 */
import groovy.json.JsonSlurper
import groovy.transform.CompileStatic
import groovy.transform.Field

import java.nio.file.Files
import java.nio.file.Path
import java.nio.file.StandardCopyOption
import java.security.MessageDigest
import java.util.zip.GZIPInputStream
import java.util.zip.GZIPOutputStream

import qupath.lib.images.ImageData
import qupath.lib.images.servers.ImageServerMetadata
import qupath.lib.io.PathIO
import qupath.lib.objects.PathObject
import qupath.lib.objects.classes.PathClass
import qupath.lib.objects.hierarchy.PathObjectHierarchy
import qupath.lib.projects.Project
import qupath.lib.projects.ProjectImageEntry

@Field static final String AREA = '#area'
@Field static final String LEDGER = 'NucliSeg ledger'

// Set it to true to renew the nuclei of an earlier import; on the command line, give  -a replace
// (or  -a replace-all  to renew also what was changed, added or deleted by hand)
boolean renew = false

ImageData imageData = getCurrentImageData()
ProjectImageEntry entry = getProjectEntry()
if (imageData == null || entry == null)
    throw new IllegalStateException('NucliSeg QP: open an image of a project first')

Path folder = entry.getEntryPath().getParent().getParent().resolve('nucliseg')
Map manifest = readManifest(folder, entry)
if (manifest == null) {
    println "NucliSeg QP: ${entry.getImageName()}: nothing to import"
    return
}
checkImage(imageData, manifest)
checkNothingLost(imageData, entry)
setCalibration(imageData, manifest)
setClasses(getProject(), manifest)

// A program that has the nuclei in memory hands them over; else they come from the files.
Map handed = binding.getVariables()
List<PathObject> objects = (List<PathObject>) handed.get('nuclisegObjects') ?: readObjects(folder, manifest)
List arguments = handed.get('args') as List ?: []
String mode = arguments.contains('replace-all') ? 'replace-all' : renew || arguments.contains('replace') ? 'replace' : 'add'

Map<String, Object> report = merge(imageData, objects, folder, entry.getID(), mode)
report.put('image', entry.getImageName())
println "NucliSeg QP: ${entry.getImageName()}: ${describe(report)}"
binding.setVariable('nuclisegReport', report)


@CompileStatic
Map readManifest(Path folder, ProjectImageEntry entry) {
    Path path = folder.resolve(entry.getID() + '.json')
    return Files.exists(path) ? (Map) new JsonSlurper().parse(path.toFile(), 'UTF-8') : null
}

@CompileStatic
void checkImage(ImageData imageData, Map manifest) {
    int width = ((Number) manifest.get('width_px')).intValue()
    int height = ((Number) manifest.get('height_px')).intValue()
    def server = imageData.getServer()
    if (server.getWidth() != width || server.getHeight() != height)
        throw new IllegalStateException("NucliSeg QP: QuPath sees ${server.getWidth()} x ${server.getHeight()} px, " +
            "but ${width} x ${height} px were analysed. Analyse this very image again.")
}

/** A data file that QuPath could not read looks like an empty image; saving it would lose the work in it. */
@CompileStatic
void checkNothingLost(ImageData imageData, ProjectImageEntry entry) {
    Path data = entry.getEntryPath()
    if (Files.exists(data.resolve('data.qpdata.bkp')))
        throw new IllegalStateException("NucliSeg QP: an interrupted save left ${data.resolve('data.qpdata.bkp')}. " +
            'Look which of the two files is whole and remove the other.')
    if (!imageData.getHierarchy().isEmpty() || !Files.exists(data.resolve('data.qpdata')))
        return
    Path summary = data.resolve('summary.json')
    Map stored = Files.exists(summary) ? (Map) new JsonSlurper().parse(summary.toFile(), 'UTF-8') : [:]
    Number count = (Number) ((Map) stored.get('hierarchy') ?: [:]).get('nObjects')
    // The root object counts as one.
    if (count != null && count.longValue() > 1)
        throw new IllegalStateException("NucliSeg QP: ${count.longValue() - 1} saved objects could not be read from ${data}. " +
            'Restore the file; if you emptied the image yourself, save it and run the script again.')
}

@CompileStatic
void setCalibration(ImageData imageData, Map manifest) {
    if (imageData.getImageType() == ImageData.ImageType.UNSET)
        imageData.setImageType(ImageData.ImageType.BRIGHTFIELD_H_DAB)
    Number mpp = (Number) manifest.get('mpp')
    def calibration = imageData.getServer().getPixelCalibration()
    if (calibration.hasPixelSizeMicrons()) {
        double seen = calibration.getAveragedPixelSizeMicrons()
        if (Math.abs(seen - mpp.doubleValue()) > 0.01 * seen)
            println "NucliSeg QP: QuPath's pixel size is ${seen} um, the analysis took ${mpp} um (${manifest.get('mpp_source')})"
        return
    }
    imageData.updateServerMetadata(new ImageServerMetadata.Builder(imageData.getServer().getMetadata())
        .pixelSizeMicrons(mpp, mpp)
        .build())
}

/** Add classes that the project does not have yet; a colour that somebody chose stays. */
@CompileStatic
void setClasses(Project project, Map manifest) {
    List<PathClass> classes = new ArrayList<PathClass>(project.getPathClasses())
    for (Object item : (List) manifest.get('classes')) {
        Map wanted = (Map) item
        PathClass pathClass = PathClass.fromString((String) wanted.get('name'))
        if (classes.contains(pathClass))
            continue
        List<Number> rgb = (List<Number>) wanted.get('color')
        pathClass.setColor(rgb[0].intValue(), rgb[1].intValue(), rgb[2].intValue())
        classes.add(pathClass)
    }
    if (classes.size() > project.getPathClasses().size())
        project.setPathClasses(classes)
}

@CompileStatic
List<PathObject> readObjects(Path folder, Map manifest) {
    List<PathObject> objects = []
    for (Object name : (List) manifest.get('files'))
        objects.addAll(PathIO.readObjects(folder.resolve((String) name)))
    Number expected = (Number) manifest.get('nuclei')
    int found = objects.count { PathObject it -> it.isDetection() }.intValue()
    if (found != expected.intValue())
        throw new IllegalStateException("NucliSeg QP: ${found} nuclei in the files instead of ${expected}. Run nucliseg-qp again.")
    return objects
}

/**
 * Put nuclei into an image beside what people did there.
 *
 * @param objects an annotation, the nuclei that go under it, perhaps another annotation and its nuclei, and so on
 * @param mode "add" only adds, "replace" renews what nobody touched, "replace-all" renews all nuclei in the areas
 */
@CompileStatic
Map<String, Object> merge(ImageData imageData, List<PathObject> objects, Path folder, String entryID, String mode) {
    PathObjectHierarchy hierarchy = imageData.getHierarchy()
    Map<String, String> ledger = readLedger(folder, entryID, imageData.getProperty(LEDGER))
    List<PathObject> areas = objects.findAll { PathObject it -> it.isAnnotation() }
    Map<String, PathObject> incoming = new LinkedHashMap<>()
    for (PathObject it : objects)
        if (it.isDetection())
            incoming.put(it.getID().toString(), it)
    boolean measured = incoming.values().any { PathObject it -> it.hasMeasurements() }

    Map<String, Object> report = [added: 0, replaced: 0, kept: 0, deleted: 0, reclassified: 0, moved: 0, locked: 0,
                                  drawn: 0, covered: 0, skipped: 0] as Map<String, Object>
    Set<String> present = new HashSet<>()
    List<PathObject> outdated = [], byHand = []
    for (PathObject it : hierarchy.getDetectionObjects()) {
        String id = it.getID().toString()
        boolean ours = ledger.containsKey(id) || incoming.containsKey(id)
        if (ours)
            present.add(id)
        if (!incoming.containsKey(id) && !inside(areas, it.getROI().getCentroidX(), it.getROI().getCentroidY()))
            continue
        String edit = ours ? editOf(it, ledger.get(id) ?: className(incoming.get(id)), measured) : 'drawn'
        if (edit == null || mode == 'replace-all') {
            outdated.add(it)
            continue
        }
        byHand.add(it)
        count(report, edit)
        if (edit != 'drawn')
            count(report, 'kept')
    }
    if (!present.isEmpty() && mode == 'add') {
        report.put('skipped', present.size())
        report.put('nuclei', hierarchy.getDetectionObjects().size())
        return report
    }
    Map<String, String> deleted = present.isEmpty() ? new HashMap<String, String>() : deletedIn(areas, ledger, present, incoming)
    if (mode == 'replace-all') {
        ledger.keySet().removeAll(deleted.keySet())
        deleted.clear()
    }
    report.put('deleted', deleted.size())

    Set<String> gone = new HashSet<>()
    for (PathObject it : outdated)
        gone.add(it.getID().toString())
    Map<Long, List<Object>> taken = grid(byHand, deleted)
    Map<PathObject, List<PathObject>> fresh = new LinkedHashMap<>()
    PathObject area = areas.isEmpty() ? null : areas[0]
    for (PathObject it : objects) {
        if (it.isAnnotation()) {
            area = it
            continue
        }
        String id = it.getID().toString()
        if (incoming.get(id) != it || deleted.containsKey(id) || (present.contains(id) && !gone.contains(id)))
            continue
        if (!gone.contains(id) && isTaken(it, taken))
            count(report, 'covered')
        else
            fresh.computeIfAbsent(area, { PathObject a -> new ArrayList<PathObject>() }).add(it)
    }
    ledger.keySet().removeAll(gone)
    apply(hierarchy, areas, outdated, fresh, ledger)
    fresh.values().each { List<PathObject> list -> list.each { PathObject it -> ledger.put(it.getID().toString(), entryFor(it)) } }
    writeLedger(folder, entryID, ledger, imageData)
    report.put('added', fresh.values().sum(0) { List<PathObject> it -> it.size() })
    report.put('replaced', outdated.size())
    report.put('nuclei', hierarchy.getDetectionObjects().size())
    return report
}

@CompileStatic
void count(Map<String, Object> report, String what) {
    report.put(what, ((int) report.get(what)) + 1)
}

@CompileStatic
boolean inside(List<PathObject> areas, double x, double y) {
    return areas.any { PathObject it -> it.getROI().contains(x, y) }
}

/** Tell what somebody did to a nucleus of ours: "locked", "reclassified", "moved", or null when nothing. */
@CompileStatic
String editOf(PathObject nucleus, String before, boolean measured) {
    if (nucleus.isLocked())
        return 'locked'
    int tab = before.indexOf('\t')
    if (className(nucleus) != (tab < 0 ? before : before.substring(0, tab)))
        return 'reclassified'
    double[] place = placeOf(before)
    // A new outline loses its measurements in QuPath; a place is stored in steps of 0.01 px.
    boolean moved = place != null &&
        Math.hypot(nucleus.getROI().getCentroidX() - place[0], nucleus.getROI().getCentroidY() - place[1]) > 0.5d
    return moved || (measured && !nucleus.hasMeasurements()) ? 'moved' : null
}

/** Count what people did to all nuclei of an image; for a plan. */
@CompileStatic
Map<String, Object> edits(ImageData imageData, Path folder, String entryID) {
    Map<String, String> ledger = readLedger(folder, entryID, imageData.getProperty(LEDGER))
    Map<String, Object> report = [untouched: 0, deleted: 0, reclassified: 0, moved: 0, locked: 0, drawn: 0] as Map<String, Object>
    Set<String> present = new HashSet<>()
    for (PathObject it : imageData.getHierarchy().getDetectionObjects()) {
        String id = it.getID().toString()
        present.add(id)
        count(report, ledger.containsKey(id) ? editOf(it, ledger.get(id), true) ?: 'untouched' : 'drawn')
    }
    report.put('deleted', ledger.count { String id, String value -> value != AREA && !present.contains(id) })
    return report
}

/** Give the nuclei that somebody deleted: id and what the ledger says of it. */
@CompileStatic
Map<String, String> deletedIn(List<PathObject> areas, Map<String, String> ledger, Set<String> present, Map<String, PathObject> incoming) {
    Map<String, String> deleted = new HashMap<>()
    ledger.each { String id, String value ->
        if (value == AREA || present.contains(id))
            return
        double[] place = placeOf(value)
        if (incoming.containsKey(id) || (place != null && inside(areas, place[0], place[1])))
            deleted.put(id, value)
    }
    return deleted
}

/** Where people had the last word: their nuclei, and the places of those they deleted, by squares of 64 px. */
@CompileStatic
Map<Long, List<Object>> grid(List<PathObject> byHand, Map<String, String> deleted) {
    Map<Long, List<Object>> grid = new HashMap<>()
    for (PathObject it : byHand)
        for (long key : squares(it))
            grid.computeIfAbsent(key, { Long k -> new ArrayList<Object>() }).add(it)
    for (String value : deleted.values()) {
        double[] place = placeOf(value)
        if (place != null)
            grid.computeIfAbsent(square((int) place[0] >> 6, (int) place[1] >> 6), { Long k -> new ArrayList<Object>() }).add(place)
    }
    return grid
}

@CompileStatic
boolean isTaken(PathObject nucleus, Map<Long, List<Object>> grid) {
    if (grid.isEmpty())
        return false
    def roi = nucleus.getROI()
    for (long key : squares(nucleus))
        for (Object it : grid.getOrDefault(key, Collections.<Object>emptyList())) {
            if (it instanceof double[]) {
                double[] place = (double[]) it
                if (roi.contains(place[0], place[1]))
                    return true
            } else {
                def other = ((PathObject) it).getROI()
                if (other.contains(roi.getCentroidX(), roi.getCentroidY()) || roi.contains(other.getCentroidX(), other.getCentroidY()))
                    return true
            }
        }
    return false
}

@CompileStatic
List<Long> squares(PathObject object) {
    def roi = object.getROI()
    List<Long> keys = []
    int right = (int) (roi.getBoundsX() + roi.getBoundsWidth()) >> 6, bottom = (int) (roi.getBoundsY() + roi.getBoundsHeight()) >> 6
    for (int x = (int) roi.getBoundsX() >> 6; x <= right; x++)
        for (int y = (int) roi.getBoundsY() >> 6; y <= bottom; y++)
            keys.add(square(x, y))
    return keys
}

@CompileStatic
long square(int x, int y) {
    return ((long) x << 32) ^ (y & 0xffffffffL)
}

/** Change the hierarchy in few steps: every step makes QuPath draw anew. */
@CompileStatic
void apply(PathObjectHierarchy hierarchy, List<PathObject> areas, List<PathObject> outdated,
           Map<PathObject, List<PathObject>> fresh, Map<String, String> ledger) {
    hierarchy.removeObjects(outdated, true)
    Set<UUID> wanted = areas.collect { PathObject it -> it.getID() } as Set<UUID>
    List<PathObject> empty = hierarchy.getAnnotationObjects().findAll { PathObject it ->
        ledger.get(it.getID().toString()) == AREA && !wanted.contains(it.getID()) && !it.hasChildObjects() &&
            inside(areas, it.getROI().getCentroidX(), it.getROI().getCentroidY())
    } as List<PathObject>
    hierarchy.removeObjects(empty, true)
    Map<UUID, PathObject> parents = new HashMap<>()
    for (PathObject it : hierarchy.getAnnotationObjects())
        parents.put(it.getID(), it)
    List<PathObject> added = []
    for (PathObject area : areas) {
        PathObject parent = parents.get(area.getID()) ?: area
        parent.addChildObjects(fresh.getOrDefault(area, Collections.<PathObject>emptyList()))
        parent.setLocked(true)
        if (!parents.containsKey(area.getID())) {
            added.add(area)
            ledger.put(area.getID().toString(), AREA)
        }
    }
    hierarchy.addObjects(added)
    hierarchy.fireHierarchyChangedEvent(this)
}

@CompileStatic
String className(PathObject object) {
    return object.getPathClass() == null ? '' : object.getPathClass().toString()
}

@CompileStatic
String describe(Map<String, Object> report) {
    if ((int) report.get('skipped') > 0)
        return "${report.get('skipped')} nuclei of an earlier import are there, nothing changed (set \"renew\" in the script to true to renew them)"
    return "${report.get('added')} nuclei added, ${report.get('replaced')} removed, " +
        "${report.get('kept')} changed by hand kept (${report.get('reclassified')} reclassified, ${report.get('moved')} moved, " +
        "${report.get('locked')} locked), ${report.get('drawn')} added by hand kept, " +
        "${report.get('deleted')} deleted by hand left out, ${report.get('nuclei')} in the image"
}

/**
 * The ledger tells what the last import added: an id, its class and its place (x,y in px) in each line.
 *
 * It lies beside the project under the hash of its content, and the image's data holds that hash: so the ledger
 * that counts is always the one of the nuclei that were saved, also when an import was not.
 */
@CompileStatic
String entryFor(PathObject nucleus) {
    def roi = nucleus.getROI()
    return className(nucleus) + '\t' + Math.round(100 * roi.getCentroidX()) / 100 + ',' + Math.round(100 * roi.getCentroidY()) / 100
}

/** Give x and y of a line of the ledger, null for an older line without them. */
@CompileStatic
double[] placeOf(String value) {
    int tab = value.indexOf('\t'), comma = value.lastIndexOf(',')
    if (tab < 0 || comma < tab)
        return null
    return [Double.parseDouble(value.substring(tab + 1, comma)), Double.parseDouble(value.substring(comma + 1))] as double[]
}

@CompileStatic
Map<String, String> readLedger(Path folder, String entryID, Object hash) {
    Map<String, String> ledger = new LinkedHashMap<>()
    if (!(hash instanceof String) || !(((String) hash) ==~ /[0-9a-f]{16}/))
        return ledger
    Path path = folder.resolve("${entryID}.${hash}.ledger.gz".toString())
    if (!Files.exists(path))
        return ledger
    new GZIPInputStream(Files.newInputStream(path)).eachLine('UTF-8') { String line ->
        int tab = line.indexOf('\t')
        if (tab > 0)
            ledger.put(line.substring(0, tab), line.substring(tab + 1))
    }
    return ledger
}

@CompileStatic
void writeLedger(Path folder, String entryID, Map<String, String> ledger, ImageData imageData) {
    StringBuilder text = new StringBuilder(64 * ledger.size())
    ledger.each { String id, String name -> text.append(id).append('\t').append(name).append('\n') }
    byte[] content = text.toString().getBytes('UTF-8')
    String hash = MessageDigest.getInstance('SHA-256').digest(content).encodeHex().toString().substring(0, 16)
    String before = imageData.getProperty(LEDGER)
    Path path = folder.resolve("${entryID}.${hash}.ledger.gz".toString())
    Path partial = path.resolveSibling('.' + path.getFileName() + '.part')
    new GZIPOutputStream(Files.newOutputStream(partial)).withStream { OutputStream out -> out.write(content) }
    Files.move(partial, path, StandardCopyOption.REPLACE_EXISTING)
    imageData.setProperty(LEDGER, hash)
    // The ledger before stays until the next import: this one may never be saved.
    Files.newDirectoryStream(folder, "${entryID}.*.ledger.gz".toString()).withCloseable { files ->
        for (Path other : files)
            if (other != path && !other.getFileName().toString().contains(".${before}.".toString()))
                Files.delete(other)
    }
}
