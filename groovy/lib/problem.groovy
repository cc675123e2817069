import groovy.transform.CompileStatic

/** What went wrong, in words for the person in front of the screen. */
@CompileStatic
class NucliSegProblem extends RuntimeException {

    private static final long serialVersionUID = 1L

    private final String text

    NucliSegProblem(Object message) {
        super('NucliSeg QP: ' + message)
        text = message
    }

    /** The same with the image's name: in a batch nobody sees which one it was. */
    NucliSegProblem of(String image) {
        return new NucliSegProblem(image + ': ' + text)
    }
}

/** The user pressed Cancel; nothing was changed. */
@CompileStatic
class NucliSegCancelled extends NucliSegProblem {

    private static final long serialVersionUID = 1L

    NucliSegCancelled() {
        super('cancelled, nothing was changed.')
    }
}
