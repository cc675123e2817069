import groovy.transform.TypeChecked
import groovy.transform.TypeCheckingMode

import java.util.concurrent.CountDownLatch

import qupath.lib.images.ImageData
import qupath.lib.plugins.parameters.ParameterList
import qupath.lib.projects.ProjectImageEntry

// include: lib/problem.groovy

/**
 * What needs QuPath's window. Its classes and those of JavaFX are looked up by name: without a window they are not there.
 */
@TypeChecked(TypeCheckingMode.SKIP)
class NucliSegWindow {

    static final String TITLE = 'NucliSeg QP'

    /** The open window, null without one. */
    static Object gui() {
        try {
            return Class.forName('qupath.lib.gui.QuPathGUI').getInstance()
        } catch (ClassNotFoundException | LinkageError ignored) {
            return null
        }
    }

    /** What was given after -a on the command line, nothing in the window. */
    static List<String> arguments(Binding binding) {
        return ((binding.getVariables().get('args') ?: []) as List).collect { Object it -> String.valueOf(it) }
    }

    /** Somebody looks at this very image, or at none; it is not one of "Run for project". */
    static boolean isInteractive(ImageData imageData) {
        Object gui = gui()
        return gui != null && (imageData == null || imageData.is(gui.getImageData()))
    }

    /** Tell what went wrong: in a dialog to somebody who looks on, else by throwing it, so that a batch hears of it. */
    static String tell(NucliSegProblem problem, boolean interactive, ProjectImageEntry entry) {
        if (!interactive)
            throw entry == null ? problem : problem.of(entry.getImageName())
        dialogs().showErrorMessage(TITLE, problem.message)
        return problem.message
    }

    static void showMessage(String text) {
        if (gui() != null)
            dialogs().showPlainMessage(TITLE, text)
    }

    /** Ask for settings; gives false when the user pressed Cancel. */
    static boolean ask(String title, ParameterList parameters) {
        return Class.forName('qupath.lib.gui.tools.GuiTools').showParameterDialog(title, parameters)
    }

    /** The key of what was chosen, from a list that showed something to read for each key. */
    static String chosen(ParameterList parameters, String name, Map<String, String> labels) {
        Object shown = parameters.getChoiceParameterValue(name)
        return labels.find { String key, String label -> label == shown }.key
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

    /** Something of JavaFX, such as a Label with its text. */
    static Object make(String name, Class kind, Object argument) {
        return Class.forName('javafx.' + name).getConstructor(kind).newInstance(argument)
    }

    static Object button(String text, Closure action) {
        Object button = make('scene.control.Button', String, text)
        button.setOnAction(handler(action))
        return button
    }

    static Object handler(Closure action) {
        return action.asType(Class.forName('javafx.event.EventHandler'))
    }

    /** A small window in front of QuPath's, with things below each other; its close box does what `closed` says. */
    static Object show(String title, List things, Closure closed) {
        Object box = make('scene.layout.VBox', double, 10.0d)
        box.setStyle('-fx-padding: 14; -fx-alignment: center-left;')
        box.getChildren().addAll(things)
        Object stage = Class.forName('javafx.stage.Stage').getConstructor().newInstance()
        if (gui() != null)
            stage.initOwner(gui().getStage())
        stage.setTitle(title)
        stage.setResizable(false)
        stage.setOnCloseRequest(handler { it.consume(); closed.call() })
        stage.setScene(make('scene.Scene', Class.forName('javafx.scene.Parent'), box))
        stage.show()
        return stage
    }
}
