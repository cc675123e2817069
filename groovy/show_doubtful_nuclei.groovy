/*
 * NucliSeg QP: show doubtful nuclei
 *
 * Steps through the nuclei whose class is least sure, so that review time goes where it counts.
 * A small window has a button and a key for each class: it sets the class and goes on. Enter confirms the class
 * it has, right and left go on and back, Escape ends. A nucleus you decided on is locked, so the next run keeps it.
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
import static qupath.lib.scripting.QP.getProjectEntry

// include: lib/doubt.groovy
// include: lib/image.groovy
// include: lib/window.groovy

ImageData imageData = getCurrentImageData()
ProjectImageEntry entry = getProjectEntry()
List<String> given = NucliSegWindow.arguments(binding)
boolean interactive = NucliSegWindow.isInteractive(imageData)
try {
    NucliSegImage.checkOpen(imageData, entry)
    String count = given.find { it.startsWith('count=') }?.substring(6) ?: '200'
    if (!(count ==~ /[1-9]\d{0,5}/))
        throw new NucliSegProblem("count=${count} is not a number of nuclei.")
    NucliSegLedger ledger = NucliSegLedger.read(NucliSegFiles.folder(entry), entry.getID(), imageData)
    NucliSegDoubt doubt = new NucliSegDoubt(imageData, ledger, NucliSegDoubt.choices(entry, imageData), count.toInteger())
    doubt.select()
    if (interactive) {
        new NucliSegReview(doubt).start()
    } else {
        doubt.queue.each { PathObject it ->
            println "NucliSeg QP: ${it.getID()}\t${NucliSegLedger.className(it)}\t${it.getMeasurements().get(NucliSegLedger.MARGIN)}"
        }
    }
} catch (NucliSegProblem problem) {
    println NucliSegWindow.tell(problem, interactive, entry)
}


/** A small window with a button for each class; the view follows. Its keys work over the image too. */
@TypeChecked(TypeCheckingMode.SKIP)
class NucliSegReview {

    private static final double DOWNSAMPLE = 0.5d

    private final NucliSegDoubt doubt
    private final Object viewer
    private final Object imageData
    private Object label
    private Object buttons
    private Object stage
    private Object filter

    NucliSegReview(NucliSegDoubt doubt) {
        this.doubt = doubt
        viewer = NucliSegWindow.gui().getViewer()
        imageData = viewer.getImageData()
    }

    void start() {
        NucliSegWindow.onScreen {
            label = NucliSegWindow.make('scene.control.Label', String, '')
            label.setMinWidth(420.0d)
            buttons = NucliSegWindow.make('scene.layout.HBox', double, 6.0d)
            buttons.getChildren().addAll(keys().collect { String key, String text ->
                NucliSegWindow.button("${key}  ${text}".toString()) { press(key) }
            })
            stage = NucliSegWindow.show(NucliSegWindow.TITLE + ': doubtful nuclei', [label, buttons]) { end() }
            filter = NucliSegWindow.handler { if (press(it.getCode().getName().replace('Numpad ', ''))) it.consume() }
            // Started once more, it takes the place of the one before: two would both hear the keys.
            Object before = viewer.getView().getProperties().put(NucliSegWindow.TITLE) { end() }
            before?.call()
            listeners { Object one, Object pressed -> one.addEventFilter(pressed, filter) }
            look()
        }
    }

    private Map<String, String> keys() {
        Map<String, String> keys = [:]
        doubt.classes.eachWithIndex { PathClass it, int i -> keys.put(String.valueOf(i + 1), it.toString()) }
        return keys + [Enter: 'right as it is', Left: 'back', Right: 'on', Esc: 'end']
    }

    private void listeners(Closure change) {
        Object pressed = Class.forName('javafx.scene.input.KeyEvent').KEY_PRESSED
        [stage.getScene(), viewer.getView()].each { Object it -> change.call(it, pressed) }
    }

    private boolean press(String key) {
        boolean ours = viewer.getImageData().is(imageData)
        if (key == 'Esc' || !ours) {
            end()
            return ours
        }
        if (!keys().containsKey(key))
            return false
        if (key == 'Right' || key == 'Left')
            doubt.step(key == 'Right' ? 1 : -1)
        else if (!doubt.decide(key == 'Enter' ? doubt.current().getPathClass() : doubt.classes[key.toInteger() - 1]))
            return finish()
        look()
        return true
    }

    private void look() {
        def roi = doubt.current().getROI()
        viewer.setDownsampleFactor(DOWNSAMPLE)
        viewer.setCenterPixelLocation(roi.getCentroidX(), roi.getCentroidY())
        label.setText(doubt.line())
    }

    private boolean finish() {
        listeners { Object one, Object pressed -> one.removeEventFilter(pressed, filter) }
        buttons.setDisable(true)
        label.setText('That was the last one. Save the image (Ctrl+S), then run send_corrections.')
        return true
    }

    private void end() {
        finish()
        stage.hide()
    }
}
