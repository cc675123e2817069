/*
 * NucliSeg QP: import nuclei
 *
 * Puts the nuclei that nucliseg-qp found into the open image. Run it from the script editor for one
 * image, or with "Run for project" for all. It reads the folder "nucliseg" beside the project file.
 *
 * Nuclei of an earlier import stay as they are, unless "renew" below is true: then those that nobody
 * changed make room for the new ones. Kept are nuclei that were reclassified, locked or redrawn;
 * nuclei that were deleted are not added again.
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
boolean replace = renew || (handed.get('args') as List ?: []).contains('replace')

Map<String, Object> report = merge(imageData, objects, folder, entry.getID(), replace)
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

@CompileStatic
Map<String, Object> merge(ImageData imageData, List<PathObject> objects, Path folder, String entryID, boolean replace) {
    PathObjectHierarchy hierarchy = imageData.getHierarchy()
    PathObject area = objects.find { PathObject it -> it.isAnnotation() }
    Map<String, PathObject> incoming = new LinkedHashMap<>()
    for (PathObject it : objects)
        if (it.isDetection())
            incoming.put(it.getID().toString(), it)
    Map<String, String> ledger = readLedger(folder, entryID, imageData.getProperty(LEDGER))

    Map<String, PathObject> present = new HashMap<>()
    for (PathObject it : hierarchy.getDetectionObjects()) {
        String id = it.getID().toString()
        if (ledger.containsKey(id) || incoming.containsKey(id))
            present.put(id, it)
    }
    if (!present.isEmpty() && !replace)
        return report(hierarchy, 0, 0, 0, 0, present.size())

    boolean measured = incoming.values().any { PathObject it -> it.hasMeasurements() }
    List<PathObject> outdated = []
    int kept = 0
    present.each { String id, PathObject it ->
        if (incoming.containsKey(id) || area.getROI().contains(it.getROI().getCentroidX(), it.getROI().getCentroidY())) {
            String before = ledger.containsKey(id) ? ledger.get(id) : className(incoming.get(id))
            if (it.isLocked() || className(it) != before || (measured && !it.hasMeasurements()))
                kept++
            else
                outdated.add(it)
        }
    }
    int deleted = 0
    Set<String> gone = new HashSet<>()
    for (PathObject it : outdated)
        gone.add(it.getID().toString())
    List<PathObject> fresh = []
    incoming.each { String id, PathObject it ->
        if (present.containsKey(id)) {
            if (gone.contains(id))
                fresh.add(it)
        } else if (ledger.containsKey(id) && !present.isEmpty())
            deleted++
        else
            fresh.add(it)
    }
    apply(hierarchy, area, outdated, fresh, ledger)

    for (String id : gone)
        ledger.remove(id)
    ledger.put(area.getID().toString(), AREA)
    for (PathObject it : fresh)
        ledger.put(it.getID().toString(), className(it))
    writeLedger(folder, entryID, ledger, imageData)
    return report(hierarchy, fresh.size(), outdated.size(), kept, deleted, 0)
}

/** Change the hierarchy in few steps: every step makes QuPath draw anew. */
@CompileStatic
void apply(PathObjectHierarchy hierarchy, PathObject area, List<PathObject> outdated, List<PathObject> fresh, Map<String, String> ledger) {
    hierarchy.removeObjects(outdated, true)
    List<PathObject> empty = hierarchy.getAnnotationObjects().findAll { PathObject it ->
        ledger.get(it.getID().toString()) == AREA && it.getID() != area.getID() && !it.hasChildObjects() &&
            area.getROI().contains(it.getROI().getCentroidX(), it.getROI().getCentroidY())
    } as List<PathObject>
    hierarchy.removeObjects(empty, true)
    PathObject parent = hierarchy.getAnnotationObjects().find { PathObject it -> it.getID() == area.getID() }
    if (parent == null) {
        area.setLocked(true)
        area.addChildObjects(fresh)
        hierarchy.addObject(area)
    } else {
        parent.addChildObjects(fresh)
        hierarchy.fireHierarchyChangedEvent(this)
    }
}

@CompileStatic
String className(PathObject object) {
    return object.getPathClass() == null ? '' : object.getPathClass().toString()
}

@CompileStatic
Map<String, Object> report(PathObjectHierarchy hierarchy, int added, int replaced, int kept, int deleted, int skipped) {
    return [added: added, replaced: replaced, kept: kept, deleted: deleted, skipped: skipped,
            nuclei: hierarchy.getDetectionObjects().size()] as Map<String, Object>
}

@CompileStatic
String describe(Map<String, Object> report) {
    if ((int) report.get('skipped') > 0)
        return "${report.get('skipped')} nuclei of an earlier import are there, nothing changed (set \"renew\" in the script to true to renew them)"
    return "${report.get('added')} nuclei added, ${report.get('replaced')} removed, " +
        "${report.get('kept')} changed by hand kept, ${report.get('deleted')} deleted by hand left out, ${report.get('nuclei')} in the image"
}

/**
 * The ledger tells what the last import added: an id and its class in each line.
 *
 * It lies beside the project under the hash of its content, and the image's data holds that hash: so the ledger
 * that counts is always the one of the nuclei that were saved, also when an import was not.
 */
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
            ledger.put(line.substring(0, tab), line.substring(tab + 1).intern())
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
