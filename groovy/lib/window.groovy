import groovy.transform.TypeChecked
import groovy.transform.TypeCheckingMode

import java.util.concurrent.CountDownLatch

import qupath.lib.images.ImageData
import qupath.lib.plugins.parameters.ParameterList

/**
 * What needs QuPath's window. Its classes are looked up by name: without a window they are not there.
 */
@TypeChecked(TypeCheckingMode.SKIP)
class NucliSegWindow {

    static final String TITLE = 'NucliSeg QP'

    private final Object stage
    private final Object bar
    private final Object label
    private volatile boolean cancelled = false

    /** The open window, null without one. */
    static Object gui() {
        try {
            return Class.forName('qupath.lib.gui.QuPathGUI').getInstance()
        } catch (ClassNotFoundException | LinkageError ignored) {
            return null
        }
    }

    /** Somebody looks at this very image, it is not one of "Run for project". */
    static boolean isInteractive(ImageData imageData) {
        Object gui = gui()
        return gui != null && imageData != null && imageData.is(gui.getImageData())
    }

    static void showError(String text) {
        if (gui() != null)
            dialogs().showErrorMessage(TITLE, text)
    }

    static void showMessage(String text) {
        if (gui() != null)
            dialogs().showPlainMessage(TITLE, text)
    }

    static boolean confirm(String text) {
        return dialogs().showConfirmDialog(TITLE, text)
    }

    /** Ask for settings; gives false when the user pressed Cancel. */
    static boolean ask(String title, ParameterList parameters) {
        return Class.forName('qupath.lib.gui.tools.GuiTools').showParameterDialog(title, parameters)
    }

    private static Class dialogs() {
        return Class.forName('qupath.fx.dialogs.Dialogs')
    }

    /** Run something where JavaFX wants it, and wait. */
    static Object onScreen(Closure action) {
        Class platform = Class.forName('javafx.application.Platform')
        if (platform.isFxApplicationThread())
            return action.call()
        Object answer = null
        Throwable problem = null
        CountDownLatch done = new CountDownLatch(1)
        platform.runLater({
            try {
                answer = action.call()
            } catch (RuntimeException | LinkageError | ReflectiveOperationException e) {
                problem = e
            } finally {
                done.countDown()
            }
        } as Runnable)
        done.await()
        if (problem != null)
            throw problem
        return answer
    }

    static Object make(String name, Object... arguments) {
        return Class.forName(name).getConstructors().find { it.parameterCount == arguments.length && !it.varArgs }.newInstance(arguments)
    }

    /** A window with a bar, a line of text and Cancel; null without a screen. */
    static NucliSegWindow progress(String title) {
        Object gui = gui()
        return gui == null ? null : (NucliSegWindow) onScreen { new NucliSegWindow(gui.getStage(), title) }
    }

    private NucliSegWindow(Object owner, String title) {
        bar = Class.forName('javafx.scene.control.ProgressBar').getConstructor(double).newInstance(-1.0d)
        label = Class.forName('javafx.scene.control.Label').getConstructor(String).newInstance('Starting the engine...')
        Object button = Class.forName('javafx.scene.control.Button').getConstructor(String).newInstance('Cancel')
        bar.setPrefWidth(420.0d)
        button.setCancelButton(true)
        button.setOnAction(handler { cancel(button) })
        Object box = Class.forName('javafx.scene.layout.VBox').getConstructor(double).newInstance(10.0d)
        box.setStyle('-fx-padding: 14; -fx-alignment: center-left;')
        [label, bar, button].each { box.getChildren().add(it) }
        stage = Class.forName('javafx.stage.Stage').getConstructor().newInstance()
        if (owner != null)
            stage.initOwner(owner)
        stage.setTitle(title)
        stage.setResizable(false)
        stage.setOnCloseRequest(handler { it.consume(); cancel(button) })
        stage.setScene(Class.forName('javafx.scene.Scene').getConstructor(Class.forName('javafx.scene.Parent')).newInstance(box))
        stage.show()
    }

    private void cancel(Object button) {
        cancelled = true
        button.setDisable(true)
        label.setText('Cancelling...')
    }

    private static Object handler(Closure action) {
        return action.asType(Class.forName('javafx.event.EventHandler'))
    }

    boolean isCancelled() {
        return cancelled
    }

    void show(double share, String text) {
        Class.forName('javafx.application.Platform').runLater({
            if (!cancelled) {
                bar.setProgress(share)
                label.setText(text)
            }
        } as Runnable)
    }

    void close() {
        onScreen { stage.hide() }
    }
}
