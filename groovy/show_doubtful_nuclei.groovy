/*
 * NucliSeg QP: show doubtful nuclei
 *
 * Steps through the nuclei whose class is least sure, so that review time goes where it counts.
 * Keys, once the image has the focus: 1 to 9 set the class and go on, Enter confirms the class it has,
 * right and left go on and back, Escape ends. A nucleus you decided on is locked, so the next run keeps it.
 *
 * Without a window it prints the list and selects the first nucleus. Argument: count=200 (how many).
 *
 * Works in QuPath 0.5.1, 0.6 and 0.7, with and without the graphical interface.
 */

import groovy.transform.TypeChecked
import groovy.transform.TypeCheckingMode

import java.nio.file.Path

import qupath.lib.images.ImageData
import qupath.lib.objects.PathObject
import qupath.lib.objects.classes.PathClass
import qupath.lib.projects.ProjectImageEntry

import static qupath.lib.scripting.QP.getCurrentImageData
import static qupath.lib.scripting.QP.getProject
import static qupath.lib.scripting.QP.getProjectEntry

// include: lib/doubt.groovy
// include: lib/image.groovy
// include: lib/window.groovy

ImageData imageData = getCurrentImageData()
ProjectImageEntry entry = getProjectEntry()
List<String> given = ((binding.getVariables().get('args') ?: []) as List).collect { String.valueOf(it) }
boolean interactive = NucliSegWindow.isInteractive(imageData)
try {
    NucliSegImage.checkOpen(imageData, entry)
    String count = given.find { it.startsWith('count=') }?.substring(6) ?: '200'
    if (!(count ==~ /[1-9]\d{0,5}/))
        throw new NucliSegProblem("count=${count} is not a number of nuclei.")
    NucliSegLedger ledger = NucliSegLedger.read(NucliSegFiles.folder(entry), entry.getID(), imageData)
    List<PathClass> classes = getProject().getPathClasses().findAll { it != null && it != PathClass.NULL_CLASS } as List<PathClass>
    NucliSegDoubt doubt = new NucliSegDoubt(imageData, ledger, classes, count.toInteger())
    doubt.select()
    if (interactive) {
        new NucliSegReview(doubt).start()
    } else {
        doubt.queue.each { PathObject it ->
            println "NucliSeg QP: ${it.getID()}\t${NucliSegLedger.className(it)}\t${it.getMeasurements().get(NucliSegDoubt.MARGIN)}"
        }
    }
} catch (NucliSegProblem problem) {
    if (interactive)
        NucliSegWindow.showError(problem.message)
    throw problem
}


/** Keys and the view that follows; needs QuPath's window. */
@TypeChecked(TypeCheckingMode.SKIP)
class NucliSegReview {

    private static final double DOWNSAMPLE = 0.5d

    private final NucliSegDoubt doubt
    private final Object viewer
    private Object filter
    private Class keyEvent

    NucliSegReview(NucliSegDoubt doubt) {
        this.doubt = doubt
        viewer = NucliSegWindow.gui().getViewer()
    }

    void start() {
        keyEvent = Class.forName('javafx.scene.input.KeyEvent')
        filter = { event -> if (press(event.getCode().getName())) event.consume() }.asType(Class.forName('javafx.event.EventHandler'))
        String keys = [doubt.classes, 1..doubt.classes.size()].transpose().collect { "${it[1]} ${it[0]}" }.take(9).join(', ')
        NucliSegWindow.showMessage("${doubt.queue.size()} nuclei, the least sure first.\n\nKeys: ${keys}, Enter confirms, left and right, Escape ends.")
        NucliSegWindow.onScreen {
            viewer.getView().addEventFilter(keyEvent.KEY_PRESSED, filter)
            viewer.getView().requestFocus()
            look()
        }
    }

    private boolean press(String key) {
        if (key == 'Esc')
            return end('review ended')
        if (key == 'Right' || key == 'Left')
            doubt.step(key == 'Right' ? 1 : -1)
        else if (key == 'Enter')
            decide(doubt.current().getPathClass())
        else if (key ==~ /[1-9]/ && key.toInteger() <= doubt.classes.size())
            decide(doubt.classes[key.toInteger() - 1])
        else
            return false
        look()
        return true
    }

    private void decide(PathClass wanted) {
        if (!doubt.decide(wanted))
            end('that was the last one; save the image (Ctrl+S) and run send_corrections')
    }

    private boolean end(String text) {
        viewer.getView().removeEventFilter(keyEvent.KEY_PRESSED, filter)
        Class.forName('qupath.fx.dialogs.Dialogs').showInfoNotification(NucliSegWindow.TITLE, text)
        return true
    }

    private void look() {
        def roi = doubt.current().getROI()
        viewer.setDownsampleFactor(DOWNSAMPLE)
        viewer.setCenterPixelLocation(roi.getCentroidX(), roi.getCentroidY())
        Class.forName('qupath.fx.dialogs.Dialogs').showInfoNotification(NucliSegWindow.TITLE, doubt.line())
    }
}
