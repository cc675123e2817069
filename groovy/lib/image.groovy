import groovy.transform.CompileStatic

import java.nio.file.Files
import java.nio.file.Path

import qupath.lib.images.ImageData
import qupath.lib.images.servers.ImageServer
import qupath.lib.images.servers.ImageServerMetadata
import qupath.lib.images.servers.PixelCalibration
import qupath.lib.objects.classes.PathClass
import qupath.lib.projects.Project
import qupath.lib.projects.ProjectImageEntry

// include: lib/files.groovy

/** Checks and settings of the image that is worked on. */
@CompileStatic
class NucliSegImage {

    static void checkOpen(ImageData imageData, ProjectImageEntry entry) {
        if (imageData == null)
            throw new NucliSegProblem('no image is open. Open an image of a project first.')
        if (entry == null)
            throw new NucliSegProblem('the image belongs to no project, so its nuclei could not be kept apart from your own ' +
                'work. Make one (File > Project > Create project), add the image, and open it from the Project tab.')
    }

    static void checkSize(ImageData imageData, Map<String, Object> manifest) {
        int width = ((Number) manifest.get('width_px')).intValue()
        int height = ((Number) manifest.get('height_px')).intValue()
        ImageServer server = imageData.getServer()
        if (server.getWidth() != width || server.getHeight() != height)
            throw new NucliSegProblem("QuPath sees ${server.getWidth()} x ${server.getHeight()} px, " +
                "but ${width} x ${height} px were analysed. Analyse this very image again.")
    }

    /** A data file that QuPath could not read looks like an empty image; saving it would lose the work in it. */
    static void checkNothingLost(ImageData imageData, ProjectImageEntry entry) {
        Path data = entry.getEntryPath()
        if (Files.exists(data.resolve('data.qpdata.bkp')))
            throw new NucliSegProblem("an interrupted save left ${data.resolve('data.qpdata.bkp')}. " +
                'Look which of the two files is whole and remove the other.')
        if (!imageData.getHierarchy().isEmpty() || !Files.exists(data.resolve('data.qpdata')))
            return
        Path summary = data.resolve('summary.json')
        Map<String, Object> stored = NucliSegFiles.read(summary) ?: [:]
        Number count = (Number) ((Map) stored.get('hierarchy') ?: [:]).get('nObjects')
        // The root object counts as one.
        if (count != null && count.longValue() > 1)
            throw new NucliSegProblem("${count.longValue() - 1} saved objects could not be read from ${data}. " +
                'Restore the file; if you emptied the image yourself, save it and run the script again.')
    }

    /** Tell whether the pixel size is known; exactly 1 um is what QuPath takes when some TIFF files have none. */
    static boolean hasPixelSize(ImageServer server) {
        PixelCalibration calibration = server.getPixelCalibration()
        return calibration.hasPixelSizeMicrons() &&
            !(calibration.getPixelWidthMicrons() == 1.0d && calibration.getPixelHeightMicrons() == 1.0d)
    }

    /** Fill in type and pixel size where QuPath has none; gives a warning when it has another size. */
    static String calibrate(ImageData imageData, Map<String, Object> manifest) {
        if (imageData.getImageType() == ImageData.ImageType.UNSET)
            imageData.setImageType(ImageData.ImageType.BRIGHTFIELD_H_DAB)
        double mpp = ((Number) manifest.get('mpp')).doubleValue()
        def calibration = imageData.getServer().getPixelCalibration()
        if (!hasPixelSize(imageData.getServer())) {
            imageData.updateServerMetadata(new ImageServerMetadata.Builder(imageData.getServer().getMetadata())
                .pixelSizeMicrons(mpp, mpp)
                .build())
            return ''
        }
        double seen = calibration.getAveragedPixelSizeMicrons()
        return Math.abs(seen - mpp) <= 0.01 * seen ? '' :
            String.format(Locale.ENGLISH, "QuPath's pixel size is %.4f \u00b5m, the analysis took %.4f \u00b5m (%s)", seen, mpp, manifest.get('mpp_source'))
    }

    /** Add classes that the project does not have yet; a colour that somebody chose stays. */
    static void addClasses(Project project, List<Map<String, Object>> wanted) {
        List<PathClass> classes = new ArrayList<PathClass>(project.getPathClasses())
        int before = classes.size()
        for (Map<String, Object> item : wanted) {
            PathClass pathClass = PathClass.fromString((String) item.get('name'))
            if (classes.contains(pathClass))
                continue
            List<Number> rgb = (List<Number>) item.get('color')
            pathClass.setColor(rgb[0].intValue(), rgb[1].intValue(), rgb[2].intValue())
            classes.add(pathClass)
        }
        if (classes.size() > before)
            project.setPathClasses(classes)
    }

    /** Tell in the Project tab how the nuclei came about. */
    static void describe(ProjectImageEntry entry, Map<String, Object> manifest) {
        Map<String, Object> texts = (Map<String, Object>) manifest.get('provenance') ?: [:]
        texts.each { String name, Object text -> entry.putMetadataValue(name, String.valueOf(text)) }
    }
}
