import com.google.gson.JsonElement
import groovy.transform.CompileStatic

import java.nio.file.Files
import java.nio.file.Path

import qupath.lib.color.ColorDeconvolutionStains
import qupath.lib.color.StainVector
import qupath.lib.images.ImageData
import qupath.lib.images.servers.ImageServer
import qupath.lib.images.servers.ImageServerBuilder
import qupath.lib.images.servers.PixelCalibration
import qupath.lib.io.GsonTools
import qupath.lib.objects.PathObject
import qupath.lib.projects.Project
import qupath.lib.projects.ProjectImageEntry

// include: lib/engine.groovy
// include: lib/history.groovy
// include: lib/import.groovy
// include: lib/json.groovy
// include: lib/options.groovy
// include: lib/palette.groovy

/** One detection: from the image and the options to nuclei under their annotations. */
@CompileStatic
class NucliSegDetection {

    private final Project project
    private final ProjectImageEntry entry
    private final ImageData imageData
    private final NucliSegOptions options
    private final Path folder
    /** Told how far it is: share (below 0 when not known) and a line of text. */
    Closure<Void> progress = { double share, String text -> null }
    Closure<Boolean> cancelled = { -> false }

    NucliSegDetection(Project project, ProjectImageEntry entry, ImageData imageData, NucliSegOptions options) {
        this.project = project
        this.entry = entry
        this.imageData = imageData
        this.options = options
        this.folder = NucliSegFiles.folder(entry)
    }

    /** Gives a line on what was done; throws NucliSegProblem and leaves all as it was when something is wrong. */
    String run() {
        checkImage()
        NucliSegImage.checkNothingLost(imageData, entry)
        List<PathObject> regions = regions()
        Map<String, Object> request = request(regions)
        NucliSegEngine engine = NucliSegEngine.find(folder)
        engine.cancelled = cancelled
        engine.listener = { Map event -> told(event) }
        // Outside of the project: it may be shared, or on a slow disk.
        Path temporary = Files.createTempDirectory('nucliseg-qp-')
        try {
            Map<String, Object> manifest = engine.analyse(request, temporary)
            progress.call(1.0d, "Adding ${manifest.get('nuclei')} nuclei...".toString())
            return add(manifest, regions, temporary)
        } catch (OutOfMemoryError ignored) {
            throw new NucliSegProblem('QuPath has not enough memory for so many nuclei. Give it more (Edit > Preferences > ' +
                'Maximum memory), restart it, or choose a smaller area.')
        } finally {
            NucliSegFiles.remove(temporary)
        }
    }

    private String add(Map<String, Object> manifest, List<PathObject> regions, Path temporary) {
        NucliSegImage.checkSize(imageData, manifest)
        List<PathObject> objects = NucliSegMerge.readObjects(temporary, manifest)
        List<PathObject> nuclei = objects.findAll { PathObject it -> it.isDetection() }
        List<PathObject> parents = regions ?: objects.findAll { PathObject it -> it.isAnnotation() }
        if (cancelled.call() || Thread.currentThread().isInterrupted())
            throw new NucliSegCancelled()
        checkStillThere(regions)
        keepPalette((Map<String, Object>) manifest.get('palette'))
        Map<String, Object> report = NucliSegMerge.into(imageData, folder, entry.getID(), nuclei, parents, true)
        String warning = NucliSegImage.calibrate(imageData, manifest)
        NucliSegImage.addClasses(project, (List<Map<String, Object>>) manifest.get('classes'))
        NucliSegImage.describe(entry, manifest)
        record(manifest)
        String text = NucliSegMerge.describe(report)
        return warning ? text + '. ' + warning : text
    }

    private void checkImage() {
        ImageServer server = imageData.getServer()
        if (server.nZSlices() > 1 || server.nTimepoints() > 1)
            throw new NucliSegProblem("this image has ${server.nZSlices()} planes and ${server.nTimepoints()} time points; only images with one are analysed.")
        if (!server.isRGB())
            throw new NucliSegProblem('this is no brightfield RGB image. NucliSeg QP finds nuclei in brightfield slides, such as H-DAB.')
        if (imageData.getImageType() == ImageData.ImageType.FLUORESCENCE)
            throw new NucliSegProblem('the image type is set to fluorescence. For a brightfield slide, set it in the Image tab; fluorescence is not analysed.')
        if (!NucliSegImage.hasPixelSize(server) && options.number('pixel-size') == null)
            throw new NucliSegProblem('the image has no pixel size (QuPath shows none, or just 1 \u00b5m), and without it a nucleus cannot be told from a speck. ' +
                'Set it in QuPath (Image tab, double-click "Pixel width"), or give pixel-size=0.25 (micrometres).')
    }

    /** Annotations to analyse, none for the whole image. */
    private List<PathObject> regions() {
        NucliSegLedger ledger = NucliSegLedger.read(folder, entry.getID(), imageData)
        List<PathObject> drawn = imageData.getHierarchy().getAnnotationObjects().findAll { PathObject it ->
            it.getROI() != null && it.getROI().isArea() && !it.getROI().isEmpty() && !ledger.isArea(it)
        } as List<PathObject>
        String scope = options.text('scope')
        if (scope == 'image')
            return []
        if (scope == 'selected') {
            Collection<PathObject> selected = imageData.getHierarchy().getSelectionModel().getSelectedObjects()
            List<PathObject> chosen = selected.findAll { PathObject it ->
                it.isAnnotation() && it.getROI() != null && it.getROI().isArea()
            } as List<PathObject>
            if (chosen.isEmpty())
                throw new NucliSegProblem('no annotation is selected. Draw one around the area, or select one (Annotations tab), or choose the whole image.')
            return chosen
        }
        // A class with a star at its end is one that QuPath ignores; what was reviewed is not detected again.
        List<PathObject> wanted = drawn.findAll { PathObject it ->
            !NucliSegLedger.className(it).endsWith('*') && !ledger.reviewed.areas.contains(it)
        } as List<PathObject>
        if (scope == 'all' && wanted.isEmpty())
            throw new NucliSegProblem('the image has no annotation. Draw one around the area, or choose the whole image.')
        return wanted
    }

    /** The user may go on working while the engine works. */
    private void checkStillThere(List<PathObject> regions) {
        Set<PathObject> there = new HashSet<PathObject>(imageData.getHierarchy().getAnnotationObjects())
        if (!there.containsAll(regions))
            throw new NucliSegProblem('an annotation that was analysed was deleted meanwhile. Run again.')
    }

    private Map<String, Object> request(List<PathObject> regions) {
        Map<String, Object> request = [format: NucliSegEngine.FORMAT, image: image(), settings: settings(), shard: 50000] as Map<String, Object>
        if (options.text('config'))
            request.put('config', options.text('config'))
        if (!regions.isEmpty())
            request.put('regions', [type: 'FeatureCollection', features: regions.collect { PathObject it ->
                [type: 'Feature', properties: [:],
                 geometry: NucliSegJson.read(GsonTools.getInstance().toJson(it.getROI().getGeometry()))]
            }])
        return request
    }

    private Map<String, Object> image() {
        ImageServer server = imageData.getServer()
        def builder = server.getBuilder()
        if (builder == null)
            throw new NucliSegProblem('QuPath does not say how it opened this image. Add its file to the project and open it from there.')
        JsonElement described = GsonTools.getInstance().toJsonTree(builder, ImageServerBuilder.ServerBuilder)
        Map<String, Object> plain = (Map<String, Object>) NucliSegJson.read(described.toString())
        plain.remove('metadata')
        Map<String, Object> image = [builder: plain, width_px: server.getWidth(), height_px: server.getHeight()] as Map<String, Object>
        PixelCalibration calibration = server.getPixelCalibration()
        BigDecimal given = options.number('pixel-size')
        if (given != null) {
            image.putAll([mpp_x: given, mpp_y: given])
        } else if (NucliSegImage.hasPixelSize(server)) {
            image.putAll([mpp_x: calibration.getPixelWidthMicrons(), mpp_y: calibration.getPixelHeightMicrons()])
        }
        return image
    }

    private Map<String, Object> settings() {
        Map<String, Object> settings = options.settings()
        Map<String, Object> stored = NucliSegFiles.read(NucliSegPalettes.file(folder, options.text('palette')))
        if (stored != null && stored.get('source'))
            settings.put('classes', [palette: stored.get('source')])
        ColorDeconvolutionStains stains = imageData.getColorDeconvolutionStains()
        if (stains != null && stains.isH_DAB() && !settings.containsKey('stains'))
            settings.put('stains', [hematoxylin: vector(stains.getStain(1)), dab: vector(stains.getStain(2)),
                background: [stains.getMaxRed(), stains.getMaxGreen(), stains.getMaxBlue()]])
        return settings
    }

    private static List<Double> vector(StainVector stain) {
        return [stain.getRed(), stain.getGreen(), stain.getBlue()]
    }

    private void told(Map event) {
        if (event.get('event') == 'engine')
            progress.call(-1.0d, "Model ${event.get('model')} on ${event.get('device')}".toString())
        // One that does not tell how far it is is no reason to stop.
        if (event.get('event') != 'progress' || !['done', 'total', 'step', 'steps'].every { String it -> event.get(it) instanceof Number })
            return
        double done = ((Number) event.get('done')).doubleValue()
        double total = ((Number) event.get('total')).doubleValue()
        int step = ((Number) event.get('step')).intValue()
        int steps = ((Number) event.get('steps')).intValue()
        double share = total > 0 ? (step - 1 + done / total) / steps : -1.0d
        progress.call(share, line(event, step))
    }

    private static String line(Map event, int step) {
        String what = step == 1 ? 'Finding nuclei' : 'Outlining nuclei'
        Number nuclei = (Number) event.get('nuclei')
        Number seconds = (Number) event.get('seconds_left')
        String found = nuclei != null && nuclei.longValue() > 0 ? String.format(Locale.ENGLISH, ', %,d nuclei so far', nuclei.longValue()) : ''
        String left = seconds == null ? '' : seconds.doubleValue() < 90 ? ", ${Math.round(seconds.doubleValue())} s left" :
            ", ${Math.round(seconds.doubleValue() / 60)} min left"
        return "${what}: ${event.get('done')} of ${event.get('total')}${found}${left}"
    }

    /** Reclassify works with it later, also when it is the user's own. */
    private void keepPalette(Map<String, Object> palette) {
        if (palette == null)
            return
        Path path = NucliSegPalettes.file(folder, String.valueOf(palette.get('name')))
        if (!Files.exists(path))
            NucliSegFiles.writeJson(path, palette)
    }

    private void record(Map<String, Object> manifest) {
        Map<String, Object> about = new LinkedHashMap<String, Object>((Map<String, Object>) manifest.get('provenance') ?: [:])
        about.putAll(options.values)
        NucliSegHistory.add(imageData, 'detect nuclei', 'detect_nuclei.groovy', options.arguments(), about)
    }
}
