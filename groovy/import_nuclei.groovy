/*
 * NucliSeg QP: import nuclei
 *
 * Puts nuclei that nucliseg-qp found elsewhere, in a batch or on a GPU server, into the open image.
 * A dialog asks from where, into which images, and whether to renew. It takes them from the folder
 * "nucliseg" beside the project file, or from a folder that "nucliseg-qp detect" wrote.
 *
 * Nuclei of an earlier run stay as they are, unless they are to be renewed: then those that nobody
 * changed make room for the new ones. Kept are nuclei that were reclassified, locked, redrawn or added;
 * nuclei that were deleted are not added again.
 *
 * With "Run for project" there is no dialog, and what "renew" and "results" below say applies. Arguments, on
 * the command line after -a: replace (as "renew"), from=FOLDER (as "results"), all (every image of the project,
 * each is saved at once).
 *
 * Works in QuPath 0.5.1, 0.6 and 0.7, with and without the graphical interface.
 */

import qupath.lib.images.ImageData
import qupath.lib.plugins.parameters.ParameterList
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
List<String> given = NucliSegWindow.arguments(binding)
String from = given.find { it.startsWith('from=') }?.substring(5) ?: results
boolean replace = renew || given.contains('replace')
boolean all = given.contains('all')

ImageData imageData = getCurrentImageData()
ProjectImageEntry entry = getProjectEntry()
boolean interactive = NucliSegWindow.isInteractive(imageData) && given.isEmpty()
try {
    if (interactive) {
        ParameterList list = new ParameterList()
            .addTitleParameter('Nuclei that were found elsewhere')
            .addStringParameter('from', 'Folder (empty: beside the project)', from, 'The folder that "nucliseg-qp detect -o FOLDER" wrote')
            .addBooleanParameter('all', 'Into all images of the project', false, 'Each image is saved at once')
            .addBooleanParameter('replace', 'Renew the nuclei of an earlier run', replace, 'Those that you changed stay')
        if (!NucliSegWindow.ask('NucliSeg QP', list))
            return
        // Windows puts quotes around a path that is copied.
        from = String.valueOf(list.getStringParameterValue('from') ?: '').replace('"', '').trim()
        all = list.getBooleanParameterValue('all')
        replace = list.getBooleanParameterValue('replace')
    }
    if (all) {
        NucliSegImport.intoProject(getProject(), entry, imageData, from, replace) { String it -> println it }
        if (interactive)
            NucliSegWindow.showMessage('All images were gone through; the log of the script tells what each of them got.')
        return
    }
    NucliSegImage.checkOpen(imageData, entry)
    NucliSegImport job = NucliSegImport.find(getProject(), entry, imageData, from)
    if (job == null) {
        println "NucliSeg QP: ${entry.getImageName()}: nothing to import"
        if (interactive)
            NucliSegWindow.showMessage("There is nothing to import for ${entry.getImageName()}.")
        return
    }
    // A program that has the nuclei in memory hands them over; else they come from the files.
    Map<String, Object> report = job.run(handed.get('nuclisegObjects') as List, replace)
    println "NucliSeg QP: ${entry.getImageName()}: ${job.describe(report)}"
    if (interactive)
        NucliSegWindow.showMessage(job.describe(report))
    binding.setVariable('nuclisegReport', report)
} catch (NucliSegProblem problem) {
    // The program that hands nuclei over, and "all", name the image themselves.
    boolean named = handed.containsKey('nuclisegObjects') || all
    println NucliSegWindow.tell(problem, interactive, named ? null : entry)
}
