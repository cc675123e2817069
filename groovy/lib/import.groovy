import groovy.transform.CompileStatic

import java.nio.file.Files
import java.nio.file.Path
import java.nio.file.Paths
import java.security.MessageDigest

import org.locationtech.jts.geom.Geometry

import qupath.lib.images.ImageData
import qupath.lib.io.GsonTools
import qupath.lib.objects.PathObject
import qupath.lib.objects.PathObjects
import qupath.lib.projects.Project
import qupath.lib.projects.ProjectImageEntry
import qupath.lib.regions.ImagePlane
import qupath.lib.roi.GeometryTools
import qupath.lib.roi.ROIs
import qupath.lib.roi.interfaces.ROI

// include: lib/image.groovy
// include: lib/json.groovy
// include: lib/merge.groovy

/** Finds an image among the results of "nucliseg-qp detect". */
@CompileStatic
class NucliSegResults {

    private static final int SAMPLE_BYTES = 65536

    /** Give what is known of the image's result; refuses one that is of another image. */
    static Map<String, Object> find(Path folder, ImageData imageData) {
        Map<String, Object> run = NucliSegFiles.read(folder.resolve('run.json'))
        if (run == null)
            throw new NucliSegProblem("${folder} holds no run.json. Give the folder that \"nucliseg-qp detect -o FOLDER\" wrote.")
        Path image = fileOf(imageData)
        List<Map<String, Object>> named = ((List<Map<String, Object>>) run.get('images')).findAll { Map<String, Object> it ->
            nameOf((String) it.get('path')).equalsIgnoreCase(image.getFileName().toString())
        }
        if (named.isEmpty())
            return null
        List<Map<String, Object>> fitting = named.findAll { Map<String, Object> it -> fits(it, imageData, image) }
        if (fitting.size() != 1)
            throw new NucliSegProblem(fitting.isEmpty() ?
                "the result for ${image.getFileName()} is of another image of that name (another size or content). Analyse this one." :
                "${fitting.size()} results fit ${image.getFileName()}. Import them one by one, from folders of their own.")
        return manifest(folder, run, fitting[0])
    }

    private static Map<String, Object> manifest(Path folder, Map<String, Object> run, Map<String, Object> image) {
        if (image.get('status') != 'done')
            throw new NucliSegProblem("the result for ${nameOf((String) image.get('path'))} is ${image.get('status')}: ${image.get('problem')}")
        Map<String, Object> model = (Map<String, Object>) run.get('model') ?: [:]
        Map<String, Object> device = (Map<String, Object>) run.get('device') ?: [:]
        Map<String, Object> manifest = new LinkedHashMap<String, Object>(image)
        List<String> files = files(folder, nameOf((String) image.get('path')))
        if (files.isEmpty())
            throw new NucliSegProblem("${folder} holds no nuclei for ${nameOf((String) image.get('path'))}. Run nucliseg-qp detect again.")
        manifest.put('files', files)
        manifest.put('classes', run.get('classes') ?: [])
        manifest.put('provenance', ['NucliSeg program': run.get('program'), 'NucliSeg model': model.get('name'),
            'NucliSeg device': device.get('label'), 'NucliSeg palette': run.get('palette'),
            'NucliSeg time': run.get('time'), 'NucliSeg status': 'done'])
        return manifest
    }

    private static List<String> files(Path folder, String image) {
        String stem = image
        for (String suffix : ['.ome.tiff', '.ome.tif', '.geojson.gz', '.tar.gz']) {
            if (image.toLowerCase(Locale.ENGLISH).endsWith(suffix))
                stem = image.substring(0, image.length() - suffix.length())
        }
        if (stem == image && image.lastIndexOf('.') > 0)
            stem = image.substring(0, image.lastIndexOf('.'))
        Path nuclei = folder.resolve('nuclei')
        if (Files.exists(nuclei.resolve(stem + '.geojson.gz')))
            return [stem + '.geojson.gz']
        List<String> parts = []
        for (int i = 1; Files.exists(nuclei.resolve(String.format('%s.%03d.geojson.gz', stem, i))); i++)
            parts.add(String.format('%s.%03d.geojson.gz', stem, i))
        return parts
    }

    private static boolean fits(Map<String, Object> result, ImageData imageData, Path image) {
        if (!(result.get('width_px') instanceof Number))
            return true
        boolean sameSize = ((Number) result.get('width_px')).intValue() == imageData.getServer().getWidth() &&
            ((Number) result.get('height_px')).intValue() == imageData.getServer().getHeight()
        Object expected = result.get('fingerprint')
        return sameSize && (expected == null || !Files.exists(image) || expected == fingerprint(image))
    }

    /** Tell files apart without reading all of them: size, first and last 64 kB. */
    static String fingerprint(Path image) {
        RandomAccessFile file = new RandomAccessFile(image.toFile(), 'r')
        try {
            long size = file.length()
            byte[] head = new byte[(int) Math.min(size, (long) SAMPLE_BYTES)]
            file.readFully(head)
            byte[] tail = new byte[(int) Math.min(size, (long) SAMPLE_BYTES)]
            file.seek(size - tail.length)
            file.readFully(tail)
            MessageDigest digest = MessageDigest.getInstance('SHA-256')
            digest.update(String.valueOf(size).getBytes('US-ASCII'))
            digest.update(head)
            digest.update(tail)
            return digest.digest().encodeHex().toString()
        } finally {
            file.close()
        }
    }

    private static Path fileOf(ImageData imageData) {
        Collection<URI> uris = imageData.getServer().getURIs()
        if (uris.isEmpty() || uris[0].getScheme() != 'file')
            throw new NucliSegProblem('this image is not a file on this computer, so no result can be matched to it.')
        return Paths.get(uris[0])
    }

    /** The result may come from another system: both separators count. */
    private static String nameOf(String path) {
        return path.substring(Math.max(path.lastIndexOf('/'), path.lastIndexOf('\\')) + 1)
    }
}

/** Nuclei of a result into one image. */
@CompileStatic
class NucliSegImport {

    private static final String NAME = 'NucliSeg QP'

    private final Project project
    private final ProjectImageEntry entry
    private final ImageData imageData
    private final Map<String, Object> manifest
    private final Path source
    private String warning = ''

    NucliSegImport(Project project, ProjectImageEntry entry, ImageData imageData, Map<String, Object> manifest, Path source) {
        this.project = project
        this.entry = entry
        this.imageData = imageData
        this.manifest = manifest
        this.source = source
    }

    Map<String, Object> run(List handed, boolean replace) {
        NucliSegImage.checkSize(imageData, manifest)
        NucliSegImage.checkNothingLost(imageData, entry)
        List<PathObject> objects = (List<PathObject>) handed ?: NucliSegMerge.readObjects(source, manifest)
        List<PathObject> nuclei = objects.findAll { PathObject it -> it.isDetection() }
        List<PathObject> areas = objects.findAll { PathObject it -> it.isAnnotation() }
        Path folder = NucliSegFiles.folder(entry)
        Map<String, Object> report = NucliSegMerge.into(imageData, folder, entry.getID(), nuclei, areas ?: [analysedArea()], replace)
        warning = NucliSegImage.calibrate(imageData, manifest)
        NucliSegImage.addClasses(project, (List<Map<String, Object>>) manifest.get('classes'))
        if ((int) report.get('skipped') == 0)
            NucliSegImage.describe(entry, manifest)
        report.put('image', entry.getImageName())
        return report
    }

    String describe(Map<String, Object> report) {
        String text = NucliSegMerge.describe(report)
        if ((int) report.get('skipped') > 0)
            text += '; choose "renew" to take the new ones instead'
        return warning ? text + '. ' + warning : text
    }

    /** The part that was analysed; results of "detect" hold no annotation, only its outline. */
    private PathObject analysedArea() {
        ImagePlane plane = ImagePlane.getDefaultPlane()
        Object outline = manifest.get('geometry')
        String text = outline == null ? '' : NucliSegJson.write(outline)
        ROI roi = outline == null ?
            ROIs.createRectangleROI(0, 0, imageData.getServer().getWidth(), imageData.getServer().getHeight(), plane) :
            GeometryTools.geometryToROI(GsonTools.getInstance().fromJson(text, Geometry), plane)
        PathObject area = PathObjects.createAnnotationObject(roi)
        area.setID(UUID.nameUUIDFromBytes("${NAME} ${entry.getID()} ${text}".toString().getBytes('UTF-8')))
        area.setName(NAME)
        return area
    }

    /** What is to be imported into an image, from a folder of "nucliseg-qp detect" or beside the project; null if nothing. */
    static NucliSegImport find(Project project, ProjectImageEntry entry, ImageData imageData, String from) {
        Path folder = NucliSegFiles.folder(entry)
        Map<String, Object> manifest = from ? NucliSegResults.find(Paths.get(from), imageData) :
            NucliSegFiles.read(folder.resolve(entry.getID() + '.json'))
        return manifest == null ? null :
            new NucliSegImport(project, entry, imageData, manifest, from ? Paths.get(from).resolve('nuclei') : folder)
    }

    /** Import into all images, each is saved at once; what does not work is told and the next image done. */
    static void intoProject(Project project, ProjectImageEntry open, ImageData openData, String from, boolean replace, Closure<Void> tell) {
        if (project == null)
            throw new NucliSegProblem('open a project first.')
        List<ProjectImageEntry> entries = (List<ProjectImageEntry>) project.getImageList()
        List<String> problems = []
        for (ProjectImageEntry entry : entries) {
            try {
                tell.call(intoEntry(project, entry, entry == open ? openData : null, from, replace))
            } catch (NucliSegProblem problem) {
                tell.call("${entry.getImageName()}: ${problem.message}".toString())
                problems.add(entry.getImageName())
            }
        }
        if (problems)
            throw new NucliSegProblem("${problems.size()} of ${entries.size()} images were left as they were: ${problems.join(', ')}.")
    }

    private static String intoEntry(Project project, ProjectImageEntry entry, ImageData open, String from, boolean replace) {
        checkReadable(entry)
        ImageData imageData = open ?: entry.readImageData()
        try {
            NucliSegImport job = find(project, entry, imageData, from)
            if (job == null)
                return "NucliSeg QP: ${entry.getImageName()}: nothing to import"
            Map<String, Object> report = job.run(null, replace)
            if (open == null && (int) report.get('skipped') == 0)
                entry.saveImageData(imageData)
            return "NucliSeg QP: ${entry.getImageName()}: ${job.describe(report)}"
        } catch (IOException e) {
            throw new NucliSegProblem("${entry.getImageName()} cannot be read or saved (${e.getMessage()}).")
        } finally {
            if (open == null)
                imageData.getServer().close()
        }
    }

    /** QuPath takes a damaged data file for an empty image, and may never come back from a cut one. */
    private static void checkReadable(ProjectImageEntry entry) {
        Path data = entry.getEntryPath().resolve('data.qpdata')
        if (!Files.exists(data))
            return
        RandomAccessFile file = new RandomAccessFile(data.toFile(), 'r')
        try {
            byte[] head = new byte[40]
            byte[] tail = new byte[6]
            boolean whole = file.length() >= 46
            if (whole) {
                file.readFully(head)
                file.seek(file.length() - tail.length)
                file.readFully(tail)
            }
            String start = new String(head, 'ISO-8859-1')
            if (!whole || !start.startsWith('\u00ac\u00ed\u0000\u0005') || !start.contains('Data file version') ||
                    new String(tail, 'ISO-8859-1') != 't\u0000\u0003EOF')
                throw new NucliSegProblem("${data} is damaged. Restore it from a backup.")
        } finally {
            file.close()
        }
    }
}
