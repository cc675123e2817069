/*
 * NucliSeg QP: import nuclei
 *
 * Puts nuclei that nucliseg-qp found elsewhere, in a batch or on a GPU server, into the open image.
 * Run it from the script editor for one image, or with "Run for project" for all. It takes them from the
 * folder "nucliseg" beside the project file, or from a folder that "nucliseg-qp detect" wrote.
 *
 * Nuclei of an earlier run stay as they are, unless "renew" below is true: then those that nobody
 * changed make room for the new ones. Kept are nuclei that were reclassified, locked, redrawn or added;
 * nuclei that were deleted are not added again.
 *
 * On the command line, after -a: replace (as "renew"), from=FOLDER (as "results"), all (every image of
 * the project, each is saved at once).
 *
 * Works in QuPath 0.5.1, 0.6 and 0.7, with and without the graphical interface.
 */

import qupath.lib.images.ImageData
import qupath.lib.projects.ProjectImageEntry

import static qupath.lib.scripting.QP.getCurrentImageData
import static qupath.lib.scripting.QP.getProject
import static qupath.lib.scripting.QP.getProjectEntry

// include: lib/import.groovy
// include: lib/window.groovy

// Set it to true to renew the nuclei of an earlier run
boolean renew = false
// Folder that "nucliseg-qp detect -o FOLDER" wrote; empty takes what lies beside the project
String results = ''

Map<String, Object> handed = binding.getVariables()
List<String> given = (handed.get('args') as List ?: []).collect { String.valueOf(it) }
String from = given.find { it.startsWith('from=') }?.substring(5) ?: results
boolean replace = renew || given.contains('replace')

ImageData imageData = getCurrentImageData()
ProjectImageEntry entry = getProjectEntry()
try {
    if (given.contains('all')) {
        NucliSegImport.intoProject(getProject(), entry, imageData, from, replace) { String it -> println it }
        return
    }
    NucliSegImage.checkOpen(imageData, entry)
    NucliSegImport job = NucliSegImport.find(getProject(), entry, imageData, from)
    if (job == null) {
        println "NucliSeg QP: ${entry.getImageName()}: nothing to import"
        return
    }
    // A program that has the nuclei in memory hands them over; else they come from the files.
    Map<String, Object> report = job.run(handed.get('nuclisegObjects') as List, replace)
    println "NucliSeg QP: ${entry.getImageName()}: ${job.describe(report)}"
    binding.setVariable('nuclisegReport', report)
} catch (NucliSegProblem problem) {
    // The program that hands nuclei over, and "all", name the image themselves.
    boolean named = handed.containsKey('nuclisegObjects') || given.contains('all')
    println NucliSegWindow.tell(problem, NucliSegWindow.isInteractive(imageData), named ? null : entry)
}
