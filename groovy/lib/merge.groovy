import groovy.transform.CompileStatic

import org.locationtech.jts.algorithm.locate.IndexedPointInAreaLocator
import org.locationtech.jts.geom.Coordinate
import org.locationtech.jts.geom.Envelope
import org.locationtech.jts.geom.Location
import org.locationtech.jts.index.strtree.STRtree

import java.nio.file.Files
import java.nio.file.Path

import qupath.lib.images.ImageData
import qupath.lib.io.PathIO
import qupath.lib.objects.PathObject
import qupath.lib.objects.hierarchy.PathObjectHierarchy
import qupath.lib.roi.interfaces.ROI

// include: lib/files.groovy
// include: lib/ledger.groovy

/** New nuclei into an image, around what a person did to those of an earlier run. */
@CompileStatic
class NucliSegMerge {

    private final PathObjectHierarchy hierarchy
    private final NucliSegLedger ledger
    private final List<PathObject> parents
    private final List<IndexedPointInAreaLocator> areas
    private final Map<String, PathObject> incoming = new LinkedHashMap<>()
    private final Map<String, PathObject> present = new LinkedHashMap<>()
    private final List<PathObject> outdated = []
    private final List<PathObject> kept = []
    private final Set<String> deleted = new HashSet<>()
    private final Map<String, Integer> edits = [reclassified: 0, redrawn: 0, confirmed: 0]
    private boolean replaceAll = false
    private int drawn = 0
    private int foreign = 0

    /**
     * @param parents annotations that hold the nuclei; those that the image lacks are added to it
     */
    NucliSegMerge(ImageData imageData, NucliSegLedger ledger, List<PathObject> nuclei, List<PathObject> parents) {
        this.hierarchy = imageData.getHierarchy()
        this.ledger = ledger
        this.parents = smallestFirst(parents.collect { PathObject it -> inImage(it) } as List<PathObject>)
        this.areas = this.parents.collect { PathObject it -> new IndexedPointInAreaLocator(it.getROI().getGeometry()) } as List<IndexedPointInAreaLocator>
        for (PathObject it : nuclei)
            incoming.put(it.getID().toString(), it)
    }

    /** Put the nuclei of a result into an image and note them in its ledger. */
    static Map<String, Object> into(ImageData imageData, Path folder, String entryID, List<PathObject> nuclei,
                                    List<PathObject> parents, boolean replace) {
        return into(imageData, folder, entryID, nuclei, parents, replace ? 'replace' : 'add')
    }

    /** @param mode "add", "replace" (what nobody touched) or "replace-all" (also what people changed) */
    static Map<String, Object> into(ImageData imageData, Path folder, String entryID, List<PathObject> nuclei,
                                    List<PathObject> parents, String mode) {
        NucliSegLedger ledger = NucliSegLedger.read(folder, entryID, imageData)
        NucliSegMerge merge = new NucliSegMerge(imageData, ledger, nuclei, parents)
        merge.replaceAll = mode == 'replace-all'
        // The ledger goes first: when it cannot be written, the image must stay as it is.
        return merge.run(mode != 'add') { -> ledger.write(folder, entryID, imageData) }
    }

    /** Read the nuclei of a result, all of them or none. */
    static List<PathObject> readObjects(Path folder, Map<String, Object> manifest) {
        List<PathObject> objects = []
        for (Object item : (List) manifest.get('files'))
            objects.addAll(readFile(folder, item))
        Number expected = (Number) manifest.get('nuclei')
        int found = objects.count { PathObject it -> it.isDetection() }.intValue()
        if (expected != null && found != expected.intValue())
            throw new NucliSegProblem("${found} nuclei in the files instead of ${expected}. Run nucliseg-qp again.")
        return objects
    }

    private static Collection<PathObject> readFile(Path folder, Object item) {
        String name = item instanceof Map ? (String) ((Map) item).get('name') : (String) item
        Path path = folder.resolve(name)
        if (path.getParent() != folder || !Files.isRegularFile(path))
            throw new NucliSegProblem("${path} is missing, so the result is not whole. Run nucliseg-qp again.")
        Number bytes = item instanceof Map ? (Number) ((Map) item).get('bytes') : null
        if (bytes != null && Files.size(path) != bytes.longValue())
            throw new NucliSegProblem("${path} is not whole. Run nucliseg-qp again.")
        try {
            return PathIO.readObjects(path)
        } catch (IOException | RuntimeException e) {
            throw new NucliSegProblem("${path} is damaged (${e.getMessage()}). Run nucliseg-qp again.")
        }
    }

    private Map<String, Object> run(boolean replace, Closure<Void> save) {
        look()
        if (!present.isEmpty() && !replace)
            return report(0, present.size())
        decide()
        List<PathObject> fresh = fresh()
        for (PathObject it : outdated)
            ledger.remove(it.getID().toString())
        for (PathObject it : fresh)
            ledger.put(it)
        for (PathObject it : parents) {
            if (it.getParent() == null)
                ledger.putArea(it)
        }
        save.call()
        apply(fresh)
        return report(fresh.size(), 0)
    }

    /** Find what is there: nuclei of an earlier run, nuclei a person drew, nuclei of other programs. */
    private void look() {
        for (PathObject it : hierarchy.getDetectionObjects()) {
            String id = it.getID().toString()
            boolean ours = ledger.contains(id) || incoming.containsKey(id)
            if (!incoming.containsKey(id) && !inAreas(it.getROI()))
                continue
            if (ours) {
                present.put(id, it)
            } else if (replaceAll) {
                outdated.add(it)
            } else if (NucliSegLedger.isDrawn(it)) {
                drawn++
                kept.add(it)
            } else {
                foreign++
            }
        }
    }

    private void decide() {
        boolean measured = incoming.values().any { PathObject it -> it.hasMeasurements() }
        present.each { String id, PathObject it ->
            String before = ledger.contains(id) ? ledger.classes.get(id) : NucliSegLedger.className(incoming.get(id))
            String change = replaceAll ? '' : ledger.changeOf(it, before, measured)
            if (change.isEmpty()) {
                outdated.add(it)
            } else {
                kept.add(it)
                edits.merge(change, 1, Integer::sum)
            }
        }
        // Where nothing is left of an earlier run, somebody began anew.
        if (present.isEmpty())
            return
        for (String id : new ArrayList<String>(ledger.classes.keySet())) {
            if (present.containsKey(id) || !(incoming.containsKey(id) || isPlaceInAreas(id)))
                continue
            if (replaceAll)
                ledger.remove(id)
            else
                deleted.add(id)
        }
    }

    /** New nuclei, less those that lie where a person decided otherwise. */
    private List<PathObject> fresh() {
        Set<String> free = new HashSet<>()
        for (PathObject it : outdated)
            free.add(it.getID().toString())
        STRtree decided = decided()
        List<PathObject> fresh = []
        incoming.each { String id, PathObject it ->
            boolean taken = (present.containsKey(id) && !free.contains(id)) || deleted.contains(id) || isSettled(it)
            if (!taken && !isDecided(decided, it.getROI()))
                fresh.add(it)
        }
        return fresh
    }

    /** Where somebody reviewed an earlier run, they looked for nuclei that it missed, too. */
    private boolean isSettled(PathObject nucleus) {
        return !replaceAll && !present.isEmpty() && ledger.reviewed.contains(nucleus)
    }

    private STRtree decided() {
        STRtree tree = new STRtree()
        for (PathObject it : kept) {
            ROI roi = it.getROI()
            tree.insert(new Envelope(roi.getBoundsX(), roi.getBoundsX() + roi.getBoundsWidth(),
                roi.getBoundsY(), roi.getBoundsY() + roi.getBoundsHeight()), roi)
        }
        for (String id : deleted) {
            double[] place = ledger.places.get(id)
            if (place != null)
                tree.insert(new Envelope(new Coordinate(place[0], place[1])), place)
        }
        return tree
    }

    /** Another model or threshold finds the same nucleus at another point: then it has another id. */
    private static boolean isDecided(STRtree decided, ROI roi) {
        Envelope bounds = new Envelope(roi.getBoundsX(), roi.getBoundsX() + roi.getBoundsWidth(),
            roi.getBoundsY(), roi.getBoundsY() + roi.getBoundsHeight())
        for (Object it : decided.query(bounds)) {
            if (it instanceof double[]) {
                if (roi.contains(((double[]) it)[0], ((double[]) it)[1]))
                    return true
            } else {
                ROI other = (ROI) it
                if (other.contains(roi.getCentroidX(), roi.getCentroidY()) || roi.contains(other.getCentroidX(), other.getCentroidY()))
                    return true
            }
        }
        return false
    }

    /** Change the hierarchy and tell it once: every event makes QuPath draw anew. */
    private void apply(List<PathObject> fresh) {
        hierarchy.getSelectionModel().deselectObjects(outdated)
        outdated.groupBy { PathObject it -> it.getParent() }.each { PathObject parent, List<PathObject> children ->
            parent.removeChildObjects(children)
        }
        removeEmptyAreas()
        for (int i = 0; i < parents.size(); i++) {
            PathObject parent = parents[i]
            if (parent.getParent() == null)
                hierarchy.getRootObject().addChildObject(parent)
            parent.setLocked(true)
        }
        fresh.groupBy { PathObject it -> parentOf(it.getROI()) }.each { PathObject parent, List<PathObject> children ->
            parent.addChildObjects(children)
        }
        hierarchy.fireHierarchyChangedEvent(this)
    }

    /** An area of an earlier run that this one covers and emptied. */
    private void removeEmptyAreas() {
        for (PathObject it : new ArrayList<PathObject>(hierarchy.getAnnotationObjects())) {
            if (ledger.isArea(it) && !parents.contains(it) && !it.hasChildObjects() && inAreas(it.getROI()))
                it.getParent().removeChildObject(it)
        }
    }

    /** The smallest area a nucleus lies in; one whose centre lies just outside belongs to the nearest. */
    private PathObject parentOf(ROI roi) {
        if (parents.size() == 1)
            return parents[0]
        Coordinate centre = new Coordinate(roi.getCentroidX(), roi.getCentroidY())
        for (int i = 0; i < parents.size(); i++) {
            if (areas[i].locate(centre) != Location.EXTERIOR)
                return parents[i]
        }
        return parents.min { PathObject it -> it.getROI().getGeometry().distance(roi.getGeometry()) }
    }

    private boolean inAreas(ROI roi) {
        return isInAreas(roi.getCentroidX(), roi.getCentroidY())
    }

    private boolean isPlaceInAreas(String id) {
        double[] place = ledger.places.get(id)
        return place != null && isInAreas(place[0], place[1])
    }

    private boolean isInAreas(double x, double y) {
        Coordinate place = new Coordinate(x, y)
        return areas.any { IndexedPointInAreaLocator it -> it.locate(place) != Location.EXTERIOR }
    }

    private PathObject inImage(PathObject parent) {
        return hierarchy.getAnnotationObjects().find { PathObject it -> it.getID() == parent.getID() } ?: parent
    }

    private static List<PathObject> smallestFirst(List<PathObject> objects) {
        return objects.sort(false) { PathObject it -> it.getROI().getArea() }
    }

    private Map<String, Object> report(int added, int skipped) {
        return [added: added, replaced: outdated.size(), kept: kept.size(), deleted: deleted.size(), skipped: skipped,
                reclassified: edits.reclassified, moved: edits.redrawn, locked: edits.confirmed,
                drawn: drawn, foreign: foreign, nuclei: hierarchy.getDetectionObjects().size()] as Map<String, Object>
    }

    static String describe(Map<String, Object> report) {
        if ((int) report.get('skipped') > 0)
            return "${report.get('skipped')} nuclei of an earlier run are there, nothing changed"
        Map<String, String> words = [replaced: 'removed', kept: 'changed by hand kept', deleted: 'deleted by hand left out']
        String text = "${report.get('added')} nuclei added"
        words.each { String name, String told ->
            if ((int) report.get(name) > 0)
                text += ", ${report.get(name)} ${told}"
        }
        text += ", ${report.get('nuclei')} in the image"
        return (int) report.get('foreign') == 0 ? text :
            text + "; ${report.get('foreign')} detections of other programs lie in the same area and count too"
    }
}
