import groovy.transform.CompileStatic

/** What went wrong, in words for the person in front of the screen. */
@CompileStatic
class NucliSegProblem extends RuntimeException {

    private static final long serialVersionUID = 1L

    NucliSegProblem(Object message) {
        super('NucliSeg QP: ' + message)
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
