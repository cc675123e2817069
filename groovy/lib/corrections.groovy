import groovy.transform.CompileStatic

import java.nio.charset.StandardCharsets
import java.nio.file.Path

import qupath.lib.geom.Point2
import qupath.lib.images.ImageData
import qupath.lib.images.servers.PixelCalibration
import qupath.lib.io.GsonTools
import qupath.lib.objects.PathObject
import qupath.lib.projects.ProjectImageEntry
import qupath.lib.roi.PolygonROI

// include: lib/files.groovy
// include: lib/json.groovy
// include: lib/ledger.groovy
// include: lib/problem.groovy

/** What a person did to the nuclei of a run, and at which of them somebody looked at all. */
@CompileStatic
class NucliSegCorrections {

    private static final int FORMAT = 2
    /** Of the nuclei nobody looked at, so many of each annotation are told: the least sure. */
    private static final int OPEN = 200
    private static final int PIECE = 1 << 20

    private final ImageData imageData
    private final ProjectImageEntry entry
    private final NucliSegLedger ledger
    private final StringBuilder rows = new StringBuilder()
    private final List<byte[]> pieces = []
    private final Map<String, String> quoted = new HashMap<>()
    private final List<PathObject> open = []
    private final Map<String, Integer> classes = new TreeMap<>()
    private final Map<String, Integer> inside = new HashMap<>()
    private final Map<String, Integer> counts = [reclassified: 0, redrawn: 0, confirmed: 0, added: 0, deleted: 0]

    NucliSegCorrections(ImageData imageData, ProjectImageEntry entry, Path folder) {
        this.imageData = imageData
        this.entry = entry
        this.ledger = NucliSegLedger.read(folder, entry.getID(), imageData)
    }

    boolean hasRun() {
        return !ledger.classes.isEmpty()
    }

    String write(Path target) {
        if (!hasRun())
            throw new NucliSegProblem('the image has no nuclei of NucliSeg QP. Run detect_nuclei or import_nuclei first.')
        collect()
        flush()
        // One feature a line, so that a large file is read piece by piece.
        String start = '{"type":"FeatureCollection","nucliseg":' + NucliSegJson.write(head()) + ',"features":[\n'
        List<byte[]> all = [start.getBytes(StandardCharsets.UTF_8)] + pieces + ['\n]}\n'.getBytes(StandardCharsets.UTF_8)]
        NucliSegFiles.write(target) { OutputStream out -> all.each { byte[] it -> out.write(it) } }
        String told = counts.collect { String name, Integer number -> number + ' ' + name }.join(', ')
        return "${told}; written to ${target}"
    }

    private Map<String, Object> head() {
        PixelCalibration size = imageData.getServer().getPixelCalibration()
        return [format: FORMAT, image: entry.getImageName(), entry: entry.getID(),
            uris: imageData.getServer().getURIs().collect { URI it -> it.toString() },
            width_px: imageData.getServer().getWidth(), height_px: imageData.getServer().getHeight(),
            mpp: size.hasPixelSizeMicrons() ? size.getAveragedPixelSizeMicrons() : null,
            ledger: imageData.getProperty(NucliSegLedger.PROPERTY), nuclei_of_run: nucleiOfRun(), counts: counts,
            classes: classes, annotations: annotations(), open: openRows()] as Map<String, Object>
    }

    private void collect() {
        Set<String> there = new HashSet<>()
        Collection<PathObject> nuclei = imageData.getHierarchy().getDetectionObjects()
        boolean measured = nuclei.any { PathObject it -> ledger.contains(it.getID().toString()) && it.hasMeasurements() }
        for (PathObject it : ledger.reviewed.areas)
            addArea(it)
        for (PathObject it : nuclei) {
            String id = it.getID().toString()
            there.add(id)
            count(it)
            if (ledger.contains(id))
                collectOurs(it, ledger.classes.get(id), measured)
            else if (NucliSegLedger.isDrawn(it))
                add(it, 'added', null, '')
        }
        ledger.classes.each { String id, String name ->
            if (name != NucliSegLedger.AREA && !there.contains(id))
                addDeleted(id, name)
        }
    }

    private void collectOurs(PathObject nucleus, String before, boolean measured) {
        String change = ledger.changeOf(nucleus, before, measured)
        if (change.isEmpty())
            open.add(nucleus)
        else if (change == 'confirmed')
            add(nucleus, change, before, nucleus.isLocked() ? 'lock' : 'area')
        else
            add(nucleus, change, before, '')
    }

    private void count(PathObject nucleus) {
        classes.merge(NucliSegLedger.className(nucleus), 1, Integer::sum)
        String parent = parentOf(nucleus)
        if (parent != null)
            inside.merge(parent, 1, Integer::sum)
    }

    private static String parentOf(PathObject nucleus) {
        PathObject parent = nucleus.getParent()
        return parent != null && parent.isAnnotation() ? parent.getID().toString() : null
    }

    private void begin() {
        if (rows.length() > 0 || !pieces.isEmpty())
            rows.append(',\n')
        if (rows.length() > PIECE)
            flush()
    }

    private void flush() {
        if (rows.length() > 0)
            pieces.add(rows.toString().getBytes(StandardCharsets.UTF_8))
        rows.setLength(0)
    }

    private void add(PathObject nucleus, String change, String before, String how) {
        begin()
        counts.put(change, counts.get(change) + 1)
        Map<String, Object> more = [change: change] as Map<String, Object>
        if (before != null)
            more.put('class_before', before)
        if (!how.isEmpty())
            more.put('confirmed_by', how)
        if (parentOf(nucleus) != null)
            more.put('annotation', parentOf(nucleus))
        if (nucleus.getROI() instanceof PolygonROI)
            appendPolygon(nucleus, more)
        else
            rows.append(NucliSegJson.write(feature(nucleus, more)))
    }

    private void addArea(PathObject area) {
        begin()
        rows.append(NucliSegJson.write(feature(area, [change: 'reviewed'] as Map<String, Object>)))
    }

    private static Map<String, Object> feature(PathObject object, Map<String, Object> more) {
        Map<String, Object> feature = (Map<String, Object>) NucliSegJson.read(GsonTools.getInstance().toJson(object))
        ((Map<String, Object>) feature.get('properties')).putAll(more)
        return feature
    }

    /** By hand: a hundred thousand nuclei through a tree of maps take minutes. */
    private void appendPolygon(PathObject nucleus, Map<String, Object> more) {
        rows.append('{"type":"Feature","id":"').append(nucleus.getID()).append('","geometry":{"type":"Polygon","coordinates":[[')
        List<Point2> points = nucleus.getROI().getAllPoints()
        for (int i = 0; i <= points.size(); i++) {
            Point2 point = points[i % points.size()]
            rows.append(i == 0 ? '[' : ',[').append(rounded(point.getX())).append(',').append(rounded(point.getY())).append(']')
        }
        rows.append(']]},"properties":{"objectType":"detection"')
        String name = NucliSegLedger.className(nucleus)
        if (!name.isEmpty())
            rows.append(',"classification":{"name":').append(quote(name)).append(',"color":').append(colour(nucleus)).append('}')
        if (nucleus.isLocked())
            rows.append(',"isLocked":true')
        more.each { String key, Object value -> rows.append(',"').append(key).append('":').append(NucliSegJson.write(value)) }
        appendMeasurements(nucleus)
        rows.append('}}')
    }

    /** QuPath reads no class without a colour. */
    private static List<Integer> colour(PathObject nucleus) {
        int packed = nucleus.getPathClass().getColor()
        return [(packed >> 16) & 255, (packed >> 8) & 255, packed & 255]
    }

    private void appendMeasurements(PathObject nucleus) {
        String mark = ',"measurements":{'
        for (Map.Entry<String, Number> one : nucleus.getMeasurements().entrySet()) {
            double value = one.getValue().doubleValue()
            if (Double.isNaN(value) || Double.isInfinite(value))
                continue
            // They are stored as float: its digits are enough.
            rows.append(mark).append(quote(one.getKey())).append(':').append((float) value)
            mark = ','
        }
        if (mark == ',')
            rows.append('}')
    }

    private String quote(String name) {
        return quoted.computeIfAbsent(name) { String it -> NucliSegJson.write(it) }
    }

    private static double rounded(double value) {
        return Math.round(value * 100) / 100.0d
    }

    /** A deleted nucleus is known by its place only. */
    private void addDeleted(String id, String before) {
        double[] place = ledger.places.get(id)
        Map<String, Object> properties = [objectType: 'detection', change: 'deleted', class_before: before] as Map<String, Object>
        Object geometry = place == null ? null : [type: 'Point', coordinates: [place[0], place[1]]]
        begin()
        counts.put('deleted', counts.get('deleted') + 1)
        rows.append(NucliSegJson.write([type: 'Feature', id: id, geometry: geometry, properties: properties]))
    }

    private List<Map<String, Object>> annotations() {
        return imageData.getHierarchy().getAnnotationObjects().collect { PathObject it ->
            [id: it.getID().toString(), name: it.getName() ?: '', 'class': NucliSegLedger.className(it),
                nuclei: inside.getOrDefault(it.getID().toString(), 0)] as Map<String, Object>
        } as List<Map<String, Object>>
    }

    private List<List<Object>> openRows() {
        Map<String, List<PathObject>> groups = open.findAll { PathObject it -> !Double.isNaN(margin(it)) }
            .groupBy { PathObject it -> parentOf(it) ?: '' }
        List<List<Object>> found = []
        groups.each { String parent, List<PathObject> nuclei ->
            nuclei.sort(false) { PathObject it -> margin(it) }.take(OPEN).each { PathObject it ->
                found.add([it.getID().toString(), rounded(it.getROI().getCentroidX()), rounded(it.getROI().getCentroidY()),
                    NucliSegLedger.className(it), margin(it), parent] as List<Object>)
            }
        }
        return found
    }

    private static double margin(PathObject nucleus) {
        Number value = nucleus.getMeasurements().get(NucliSegLedger.MARGIN)
        return value == null ? Double.NaN : value.doubleValue()
    }

    private int nucleiOfRun() {
        return ledger.classes.values().count { String it -> it != NucliSegLedger.AREA }.intValue()
    }
}
