import groovy.transform.CompileStatic

import java.nio.charset.StandardCharsets
import java.nio.file.Files
import java.nio.file.Path
import java.security.MessageDigest
import java.util.zip.GZIPInputStream
import java.util.zip.GZIPOutputStream

import qupath.lib.images.ImageData
import qupath.lib.objects.PathObject
import qupath.lib.objects.hierarchy.PathObjectHierarchy

// include: lib/files.groovy
// include: lib/reviewed.groovy

/**
 * What the program put into an image: id, class and place of each nucleus, a line each.
 *
 * It lies beside the project under the hash of its content, and the image's data holds that hash: so the ledger
 * that counts is always the one of the nuclei that were saved, also when a run was not.
 */
@CompileStatic
class NucliSegLedger {

    /** Stands for the class of an annotation that the program made. */
    static final String AREA = '#area'
    static final String PROPERTY = 'NucliSeg ledger'
    /** Measurement: by how much the class of a nucleus won. */
    static final String MARGIN = 'NucliSeg: Class margin'
    private static final String LEDGER = '.ledger.gz'

    final Map<String, String> classes = new LinkedHashMap<>()
    final Map<String, double[]> places = new HashMap<>()
    final NucliSegReviewed reviewed

    private NucliSegLedger(PathObjectHierarchy hierarchy) {
        this.reviewed = new NucliSegReviewed(hierarchy)
    }

    static NucliSegLedger read(Path folder, String entryID, ImageData imageData) {
        NucliSegLedger ledger = new NucliSegLedger(imageData.getHierarchy())
        Object hash = imageData.getProperty(PROPERTY)
        if (!(hash instanceof String) || !(((String) hash) ==~ /[0-9a-f]{16}/))
            return ledger
        Path path = folder.resolve(fileName(entryID, (String) hash))
        if (!Files.exists(path))
            return ledger
        new GZIPInputStream(Files.newInputStream(path)).eachLine('UTF-8') { String line ->
            ledger.addLine(line.split('\t', -1))
        }
        return ledger
    }

    private void addLine(String[] fields) {
        if (fields.length < 2)
            return
        classes.put(fields[0], fields[1].intern())
        // Ledgers of the first version had no places.
        if (fields.length >= 4)
            places.put(fields[0], [Double.parseDouble(fields[2]), Double.parseDouble(fields[3])] as double[])
    }

    void put(PathObject nucleus) {
        String id = nucleus.getID().toString()
        classes.put(id, className(nucleus))
        places.put(id, [nucleus.getROI().getCentroidX(), nucleus.getROI().getCentroidY()] as double[])
    }

    void putArea(PathObject area) {
        classes.put(area.getID().toString(), AREA)
    }

    void remove(String id) {
        classes.remove(id)
        places.remove(id)
    }

    boolean contains(String id) {
        return classes.containsKey(id)
    }

    boolean isArea(PathObject object) {
        return classes.get(object.getID().toString()) == AREA
    }

    /** Tell what a person did to a nucleus of the program's: empty when nothing. */
    static String change(PathObject nucleus, String classBefore, boolean measured) {
        if (className(nucleus) != classBefore)
            return 'reclassified'
        // Redrawing clears the measurements.
        if (measured && !nucleus.hasMeasurements())
            return 'redrawn'
        return nucleus.isLocked() ? 'confirmed' : ''
    }

    /**
     * As change, and a nucleus that was moved together with its measurements is "redrawn" as well; in an area
     * that somebody reviewed, one that was left as it is is "confirmed".
     */
    String changeOf(PathObject nucleus, String classBefore, boolean measured) {
        String change = change(nucleus, classBefore, measured)
        if (!change.isEmpty())
            return change
        if (isMoved(nucleus))
            return 'redrawn'
        return reviewed.contains(nucleus) ? 'confirmed' : ''
    }

    private boolean isMoved(PathObject nucleus) {
        double[] place = places.get(nucleus.getID().toString())
        if (place == null)
            return false
        double x = nucleus.getROI().getCentroidX() - place[0], y = nucleus.getROI().getCentroidY() - place[1]
        return Math.hypot(x, y) > 0.5d
    }

    /** Count all nuclei of an image by what people did to them. */
    Map<String, Integer> edits(PathObjectHierarchy hierarchy) {
        Map<String, Integer> counts = new TreeMap<>()
        Set<String> present = new HashSet<>()
        for (PathObject it : hierarchy.getDetectionObjects()) {
            String id = it.getID().toString()
            present.add(id)
            String edit = !contains(id) ? (isDrawn(it) ? 'drawn' : 'foreign') : changeOf(it, classes.get(id), true)
            counts.merge(edit.isEmpty() ? 'untouched' : edit, 1, Integer::sum)
        }
        int deleted = classes.count { String id, String name -> name != AREA && !present.contains(id) }.intValue()
        if (deleted > 0)
            counts.put('deleted', deleted)
        return counts
    }

    void write(Path folder, String entryID, ImageData imageData) {
        StringBuilder text = new StringBuilder(80 * classes.size())
        // In one order, so that the same nuclei give the same file.
        new TreeMap<String, String>(classes).each { String id, String name ->
            text.append(id).append('\t').append(name)
            double[] place = places.get(id)
            if (place != null)
                text.append('\t').append(rounded(place[0])).append('\t').append(rounded(place[1]))
            text.append('\n')
        }
        byte[] content = text.toString().getBytes(StandardCharsets.UTF_8)
        String hash = MessageDigest.getInstance('SHA-256').digest(content).encodeHex().toString().substring(0, 16)
        Object before = imageData.getProperty(PROPERTY)
        Path path = folder.resolve(fileName(entryID, hash))
        NucliSegFiles.write(path) { OutputStream out ->
            new GZIPOutputStream(out).withStream { OutputStream packed -> packed.write(content) }
        }
        removeOthers(folder, entryID, [hash, String.valueOf(before)])
        imageData.setProperty(PROPERTY, hash)
    }

    /** The ledger before stays until the next run: this one may never be saved. */
    private static void removeOthers(Path folder, String entryID, List<String> hashes) {
        List<String> kept = hashes.collect { String hash -> fileName(entryID, hash) }
        for (String name : folder.toFile().list() ?: new String[0]) {
            // One that stays, since somebody has it open, does no harm.
            if (name.startsWith(entryID + '.') && name.endsWith(LEDGER) && !kept.contains(name))
                folder.resolve(name).toFile().delete()
        }
    }

    /** Tell a nucleus that a person drew from one that a program found: programs measure. */
    static boolean isDrawn(PathObject nucleus) {
        return !nucleus.getMeasurements().keySet().any { String it ->
            it.startsWith('Nucleus:') || it.startsWith('Cell:') || it == 'Detection probability'
        }
    }

    static String className(PathObject object) {
        return object.getPathClass() == null ? '' : object.getPathClass().toString()
    }

    private static String fileName(String entryID, String hash) {
        return entryID + '.' + hash + LEDGER
    }

    private static String rounded(double value) {
        return String.valueOf(Math.round(value * 100) / 100.0d)
    }
}
