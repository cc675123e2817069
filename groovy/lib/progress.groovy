import groovy.transform.TypeChecked
import groovy.transform.TypeCheckingMode

// include: lib/window.groovy

/** A window with a bar, a line of text and Cancel. */
@TypeChecked(TypeCheckingMode.SKIP)
class NucliSegProgress {

    private final Object stage
    private final Object bar
    private final Object label
    private final Object button
    private volatile boolean cancelled = false

    /** Null without a screen. */
    static NucliSegProgress open(String title) {
        return NucliSegWindow.gui() == null ? null : (NucliSegProgress) NucliSegWindow.onScreen { new NucliSegProgress(title) }
    }

    private NucliSegProgress(String title) {
        label = NucliSegWindow.make('scene.control.Label', String, 'Starting the engine...')
        bar = NucliSegWindow.make('scene.control.ProgressBar', double, -1.0d)
        bar.setPrefWidth(420.0d)
        button = NucliSegWindow.button('Cancel') { cancel() }
        button.setCancelButton(true)
        stage = NucliSegWindow.show(title, [label, bar, button]) { cancel() }
    }

    private void cancel() {
        cancelled = true
        button.setDisable(true)
        label.setText('Cancelling...')
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
        NucliSegWindow.onScreen { stage.hide() }
    }
}
