/*
 * NucliSeg QP: send corrections
 *
 * Writes what you changed since the last run (reclassified, deleted, added, redrawn and confirmed nuclei)
 * to "nucliseg/corrections/<entry id>.geojson" beside the project, for "nucliseg-qp review".
 * Nothing in the project is changed. A nucleus is confirmed when you lock it.
 *
 * For all images use "Run for project". Argument: to=FOLDER (another folder).
 *
 * Works in QuPath 0.5.1, 0.6 and 0.7, with and without the graphical interface.
 */

import groovy.json.JsonOutput
import groovy.json.JsonSlurper
import groovy.transform.CompileStatic

import java.nio.file.Path
import java.nio.file.Paths

import qupath.lib.images.ImageData
import qupath.lib.io.GsonTools
import qupath.lib.objects.PathObject
import qupath.lib.projects.ProjectImageEntry

import static qupath.lib.scripting.QP.getCurrentImageData
import static qupath.lib.scripting.QP.getProjectEntry

// include: lib/image.groovy
// include: lib/ledger.groovy
// include: lib/window.groovy

ImageData imageData = getCurrentImageData()
ProjectImageEntry entry = getProjectEntry()
List<String> given = ((binding.getVariables().get('args') ?: []) as List).collect { String.valueOf(it) }
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
    if (interactive)
        NucliSegWindow.showError(problem.message)
    throw problem
}


/** What a person did to the nuclei of a run. */
@CompileStatic
class NucliSegCorrections {

    private static final int FORMAT = 1

    private final ImageData imageData
    private final ProjectImageEntry entry
    private final NucliSegLedger ledger
    private final List<Map<String, Object>> features = []
    private final Map<String, Integer> counts = [reclassified: 0, redrawn: 0, confirmed: 0, added: 0, deleted: 0]

    NucliSegCorrections(ImageData imageData, ProjectImageEntry entry, Path folder) {
        this.imageData = imageData
        this.entry = entry
        this.ledger = NucliSegLedger.read(folder, entry.getID(), imageData)
    }

    String write(Path target) {
        if (ledger.classes.isEmpty())
            throw new NucliSegProblem('the image has no nuclei of NucliSeg QP. Run detect_nuclei or import_nuclei first.')
        collect()
        // One feature a line, so that a large file is read piece by piece.
        Map<String, Object> head = [format: FORMAT, image: entry.getImageName(), entry: entry.getID(),
            uris: imageData.getServer().getURIs().collect { URI it -> it.toString() },
            width_px: imageData.getServer().getWidth(), height_px: imageData.getServer().getHeight(),
            ledger: imageData.getProperty(NucliSegLedger.PROPERTY), nuclei_of_run: nucleiOfRun(), counts: counts] as Map<String, Object>
        String rows = features.collect { Map<String, Object> it -> JsonOutput.toJson(it) }.join(',\n')
        NucliSegFiles.writeText(target, '{"type":"FeatureCollection","nucliseg":' + JsonOutput.toJson(head) + ',"features":[\n' + rows + '\n]}\n')
        String told = counts.collect { String name, Integer number -> number + ' ' + name }.join(', ')
        return "${told}; written to ${target}"
    }

    private void collect() {
        Set<String> there = new HashSet<>()
        boolean measured = imageData.getHierarchy().getDetectionObjects().any { PathObject it -> ledger.contains(it.getID().toString()) && it.hasMeasurements() }
        for (PathObject it : imageData.getHierarchy().getDetectionObjects()) {
            String id = it.getID().toString()
            there.add(id)
            if (ledger.contains(id)) {
                String change = ledger.changeOf(it, ledger.classes.get(id), measured)
                if (!change.isEmpty())
                    add(feature(it), change, ledger.classes.get(id))
            } else if (NucliSegLedger.isDrawn(it)) {
                add(feature(it), 'added', null)
            }
        }
        ledger.classes.each { String id, String name ->
            if (name != NucliSegLedger.AREA && !there.contains(id))
                add(missing(id), 'deleted', name)
        }
    }

    private void add(Map<String, Object> feature, String change, String before) {
        Map<String, Object> properties = (Map<String, Object>) feature.get('properties')
        properties.put('change', change)
        if (before != null)
            properties.put('class_before', before)
        features.add(feature)
        counts.put(change, counts.get(change) + 1)
    }

    private static Map<String, Object> feature(PathObject nucleus) {
        return (Map<String, Object>) new JsonSlurper().parseText(GsonTools.getInstance().toJson(nucleus))
    }

    /** A deleted nucleus is known by its place only. */
    private Map<String, Object> missing(String id) {
        double[] place = ledger.places.get(id)
        Object geometry = place == null ? null : [type: 'Point', coordinates: [place[0], place[1]]]
        return [type: 'Feature', id: id, geometry: geometry, properties: [objectType: 'detection']] as Map<String, Object>
    }

    private int nucleiOfRun() {
        return ledger.classes.values().count { String it -> it != NucliSegLedger.AREA }.intValue()
    }
}
