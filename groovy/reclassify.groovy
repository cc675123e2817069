/*
 * NucliSeg QP: reclassify
 *
 * Gives the nuclei of the open image new classes from their measurements, by another palette or other
 * thresholds, without running detection again. Nuclei that you reclassified, redrew, locked or added stay,
 * and those in annotations with the name or class "Reviewed".
 *
 * Arguments, for "Run for project" and the command line: palette=NAME (one of nucliseg/palettes beside the
 * project; without it the one that the image has), thresholds=0.1,0.25,0.45 (optical densities, for a palette
 * with thresholds).
 *
 * Works in QuPath 0.5.1, 0.6 and 0.7, with and without the graphical interface.
 */

import groovy.transform.CompileStatic

import java.nio.file.Path

import qupath.lib.images.ImageData
import qupath.lib.objects.PathObject
import qupath.lib.objects.classes.PathClass
import qupath.lib.plugins.parameters.ParameterList
import qupath.lib.projects.ProjectImageEntry

import static qupath.lib.scripting.QP.getCurrentImageData
import static qupath.lib.scripting.QP.getProject
import static qupath.lib.scripting.QP.getProjectEntry

// include: lib/history.groovy
// include: lib/image.groovy
// include: lib/ledger.groovy
// include: lib/palette.groovy
// include: lib/window.groovy

ImageData imageData = getCurrentImageData()
ProjectImageEntry entry = getProjectEntry()
List<String> given = NucliSegWindow.arguments(binding)
boolean interactive = NucliSegWindow.isInteractive(imageData) && given.isEmpty()
try {
    NucliSegImage.checkOpen(imageData, entry)
    NucliSegImage.checkNothingLost(imageData, entry)
    Path folder = NucliSegFiles.folder(entry)
    Map<String, String> labels = NucliSegPalettes.labels(folder, NucliSegPalettes.names(folder))
    String own = NucliSegPalettes.of(entry)
    Map<String, String> options = [palette: labels.containsKey(own) ? own : 'hsv', thresholds: '']
    for (String argument : given) {
        List<String> pair = argument.tokenize('=')
        if (pair.size() != 2 || !options.containsKey(pair[0]))
            throw new NucliSegProblem("the argument \"${argument}\" is not known. Known are palette= and thresholds=.")
        options.put(pair[0], pair[1])
    }
    if (interactive && labels) {
        // Somebody may have removed that one.
        String shown = labels.get(options.palette) ?: labels.values()[0]
        ParameterList list = new ParameterList()
            .addTitleParameter('New classes for the nuclei that are there')
            .addChoiceParameter('palette', 'Classes', shown, labels.values() as List,
                'Which classes there are, and what tells them apart')
            .addStringParameter('thresholds', 'Other thresholds (empty: those shown)', '', 'Optical densities in rising order, such as 0.1, 0.25, 0.45')
        if (!NucliSegWindow.ask('NucliSeg QP', list))
            return
        options.put('palette', NucliSegWindow.chosen(list, 'palette', labels))
        options.put('thresholds', String.valueOf(list.getStringParameterValue('thresholds') ?: '').trim())
    }
    NucliSegPalette palette = NucliSegPalettes.read(folder, options.get('palette'))
    if (options.get('thresholds'))
        palette.setThresholds(NucliSegReclassification.numbers(options.get('thresholds')))
    NucliSegImage.addClasses(getProject(), palette.classes)
    String done = new NucliSegReclassification(imageData, folder, entry.getID(), palette).run(options)
    NucliSegPalettes.note(entry, options.get('palette'))
    println "NucliSeg QP: ${entry.getImageName()}: ${done}"
} catch (NucliSegProblem problem) {
    println NucliSegWindow.tell(problem, interactive, entry)
}


/** New classes for the nuclei of one image. */
@CompileStatic
class NucliSegReclassification {

    private final ImageData imageData
    private final Path folder
    private final String entryID
    private final NucliSegPalette palette
    int kept = 0
    int changed = 0
    int given = 0

    NucliSegReclassification(ImageData imageData, Path folder, String entryID, NucliSegPalette palette) {
        this.imageData = imageData
        this.folder = folder
        this.entryID = entryID
        this.palette = palette
    }

    String run(Map<String, String> options) {
        NucliSegLedger ledger = NucliSegLedger.read(folder, entryID, imageData)
        List<PathClass> classes = palette.names.collect { String it -> PathClass.fromString(it) }
        List<PathObject> done = []
        kept = 0
        changed = 0
        for (PathObject nucleus : imageData.getHierarchy().getDetectionObjects()) {
            String id = nucleus.getID().toString()
            if (!isOurs(ledger, nucleus))
                continue
            double[] answer = palette.classify(nucleus)
            boolean touched = nucleus.isLocked() || ledger.reviewed.contains(nucleus) ||
                (ledger.contains(id) && !ledger.changeOf(nucleus, ledger.classes.get(id), true).isEmpty())
            if (touched || answer[0] < 0) {
                kept++
                continue
            }
            PathClass wanted = classes[(int) answer[0]]
            if (nucleus.getPathClass() != wanted)
                changed++
            nucleus.setPathClass(wanted)
            nucleus.getMeasurementList().put(palette.margin, (double) (float) answer[1])
            if (ledger.contains(id))
                ledger.put(nucleus)
            done.add(nucleus)
        }
        given = done.size()
        if (done.isEmpty())
            throw new NucliSegProblem(kept > 0 ? "all ${kept} nuclei were changed by hand or have no measurements, so none was reclassified." :
                'the image has no nuclei of NucliSeg QP. Run detect_nuclei or import_nuclei first.')
        if (!ledger.classes.isEmpty())
            ledger.write(folder, entryID, imageData)
        imageData.getHierarchy().fireHierarchyChangedEvent(this)
        record(options)
        return "${changed} of ${done.size() + kept} nuclei have another class now, ${kept} changed by hand or without measurements stayed"
    }

    /** Without a ledger, the measurements tell which nuclei are ours. */
    private boolean isOurs(NucliSegLedger ledger, PathObject nucleus) {
        return ledger.classes.isEmpty() ? nucleus.getMeasurements().containsKey(palette.margin) : ledger.contains(nucleus.getID().toString())
    }

    private void record(Map<String, String> options) {
        List<String> arguments = options.findAll { String name, String value -> value }.collect { String name, String value -> name + '=' + value }
        NucliSegHistory.add(imageData, 'reclassify', 'reclassify.groovy', arguments, options)
    }

    static List<Double> numbers(String text) {
        try {
            return text.tokenize(', ;').collect { String it -> Double.valueOf(it) }
        } catch (NumberFormatException ignored) {
            throw new NucliSegProblem("thresholds=${text} are not numbers, such as 0.1,0.25,0.45.")
        }
    }
}
