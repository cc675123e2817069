/*
 * NucliSeg QP: send corrections
 *
 * Writes what you changed since the last run (reclassified, deleted, added, redrawn and confirmed nuclei)
 * to "nucliseg/corrections/<entry id>.geojson" beside the project, for "nucliseg-qp review".
 * Nothing in the project is changed. A nucleus is confirmed when you lock it, or when it lies in an annotation
 * with the name or class "Reviewed": there you looked at every nucleus, and what you left is right.
 *
 * For all images use "Run for project". Argument: to=FOLDER (another folder).
 *
 * Works in QuPath 0.5.1, 0.6 and 0.7, with and without the graphical interface.
 */

import java.nio.file.Path
import java.nio.file.Paths

import qupath.lib.images.ImageData
import qupath.lib.projects.ProjectImageEntry

import static qupath.lib.scripting.QP.getCurrentImageData
import static qupath.lib.scripting.QP.getProjectEntry

// include: lib/corrections.groovy
// include: lib/image.groovy
// include: lib/window.groovy

ImageData imageData = getCurrentImageData()
ProjectImageEntry entry = getProjectEntry()
List<String> given = NucliSegWindow.arguments(binding)
boolean interactive = NucliSegWindow.isInteractive(imageData) && given.isEmpty()
try {
    NucliSegImage.checkOpen(imageData, entry)
    String to = given.find { it.startsWith('to=') }?.substring(3)
    Path folder = NucliSegFiles.folder(entry)
    Path target = (to ? Paths.get(to) : folder.resolve('corrections')).resolve(entry.getID() + '.geojson')
    String done = new NucliSegCorrections(imageData, entry, folder).write(target)
    println "NucliSeg QP: ${entry.getImageName()}: ${done}"
    if (interactive)
        NucliSegWindow.showMessage(done)
} catch (NucliSegProblem problem) {
    println NucliSegWindow.tell(problem, interactive, entry)
}
