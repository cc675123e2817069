/*
 * NucliSeg QP: detect nuclei
 *
 * Finds, outlines and classifies the nuclei of the open image, in the selected annotations, in all of
 * them, or in the whole image. A dialog asks for what matters and the project remembers it.
 *
 * With "Run for project" and on the command line there is no dialog: the remembered settings apply, and
 * arguments win over them, such as
 *   QuPath script -s -p project.qpproj -a scope=image -a palette=hsv -a device=cpu detect_nuclei.groovy
 * Arguments: scope= (selected, all, image, or auto: all annotations, or the image when it has none),
 * model=, palette=, threshold=, device=, pixel-size= (um), config= (a TOML file), and any setting of the
 * engine, such as masks.reach_um=9.
 *
 * Nuclei of an earlier run in the same area are replaced, those that you changed stay. Run > Kill running
 * script, or Cancel, ends the engine and changes nothing.
 *
 * Works in QuPath 0.5.1, 0.6 and 0.7, with and without the graphical interface.
 */

import java.nio.file.Path

import qupath.lib.images.ImageData
import qupath.lib.plugins.parameters.ParameterList
import qupath.lib.projects.ProjectImageEntry

import static qupath.lib.scripting.QP.getCurrentImageData
import static qupath.lib.scripting.QP.getProject
import static qupath.lib.scripting.QP.getProjectEntry

// include: lib/detect.groovy
// include: lib/progress.groovy
// include: lib/window.groovy

ImageData imageData = getCurrentImageData()
ProjectImageEntry entry = getProjectEntry()
List<String> given = NucliSegWindow.arguments(binding)
boolean interactive = NucliSegWindow.isInteractive(imageData) && given.isEmpty()
try {
    NucliSegImage.checkOpen(imageData, entry)
    NucliSegOptions options = NucliSegOptions.remembered(NucliSegFiles.folder(entry))
    options.take(given)
    if (interactive && !NucliSegDialog.ask(options, imageData, NucliSegFiles.folder(entry)))
        return
    NucliSegDetection detection = new NucliSegDetection(getProject(), entry, imageData, options)
    NucliSegProgress window = NucliSegProgress.open('NucliSeg QP: ' + entry.getImageName())
    long told = 0
    detection.cancelled = { -> window != null && window.isCancelled() }
    detection.progress = { double share, String text ->
        if (window != null)
            window.show(share, text)
        else if (share < 0 || share >= 1 || System.currentTimeMillis() - told > 5000) {
            told = System.currentTimeMillis()
            println "NucliSeg QP: ${entry.getImageName()}: ${text}"
        }
        return null
    }
    try {
        println "NucliSeg QP: ${entry.getImageName()}: ${detection.run()}"
    } finally {
        // Before anything is told: a dialog would belong to this window and go with it.
        window?.close()
    }
} catch (NucliSegCancelled cancelled) {
    println cancelled.message
    if (!interactive)
        throw cancelled
} catch (NucliSegProblem problem) {
    println NucliSegWindow.tell(problem, interactive, entry)
}


/** The settings that matter, asked in a dialog. */
class NucliSegDialog {

    private static final Map<String, String> SCOPES = [selected: 'Selected annotations', all: 'All annotations', image: 'Whole image']
    private static final Map<String, String> DEVICES = [auto: 'Automatic (a graphics card where there is one)', cpu: 'Processor (CPU)',
        cuda: 'NVIDIA graphics card (CUDA)', mps: 'Apple graphics (MPS)']

    static boolean ask(NucliSegOptions options, ImageData imageData, Path folder) {
        String palette = options.text('palette')
        String device = options.text('device')
        Map<String, Map<String, String>> choices = [scope: SCOPES,
            palette: NucliSegPalettes.labels(folder, NucliSegPalettes.names(folder) + [palette]),
            device: DEVICES + (DEVICES.containsKey(device) ? [:] : [(device): device])]
        ParameterList list = new ParameterList()
            .addTitleParameter('Find, outline and classify nuclei')
            .addChoiceParameter('scope', 'Where', SCOPES.get(scope(options, imageData)), choices.scope.values() as List,
                'Nuclei go under their annotation, which is locked')
            .addChoiceParameter('palette', 'Classes', choices.palette.get(palette), choices.palette.values() as List,
                'Which classes there are, and what tells them apart')
            .addStringParameter('threshold', 'Lowest score (empty: the model\'s own)', options.text('threshold'), 'Between 0 and 1; higher finds fewer nuclei')
            .addStringParameter('model', 'Model (empty: the default)', options.text('model'), 'Name of a shipped model or path of a .safetensors file')
            .addChoiceParameter('device', 'Computed by', choices.device.get(device), choices.device.values() as List,
                'A graphics card is faster; the result is the same but for rounding')
        if (!NucliSegImage.hasPixelSize(imageData.getServer()))
            list.addStringParameter('pixel-size', 'Pixel size in \u00b5m', '', 'The image does not tell; 0.25 is usual at 40x, 0.5 at 20x')
        if (!NucliSegWindow.ask('NucliSeg QP', list))
            return false
        choices.each { String it, Map<String, String> labels -> options.values.put(it, NucliSegWindow.chosen(list, it, labels)) }
        ['threshold', 'model', 'pixel-size'].each { String it ->
            if (list.containsKey(it))
                options.values.put(it, String.valueOf(list.getStringParameterValue(it) ?: '').trim())
        }
        options.check()
        options.remember(folder)
        return true
    }

    private static String scope(NucliSegOptions options, ImageData imageData) {
        if (imageData.getHierarchy().getSelectionModel().getSelectedObjects().any { it.isAnnotation() })
            return 'selected'
        return options.text('scope') == 'image' || imageData.getHierarchy().getAnnotationObjects().isEmpty() ? 'image' : 'all'
    }
}
