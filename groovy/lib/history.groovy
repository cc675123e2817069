import groovy.transform.CompileStatic

import qupath.lib.images.ImageData
import qupath.lib.plugins.workflow.DefaultScriptableWorkflowStep

/** QuPath's history of an image (tab Workflow), from which it makes scripts. */
@CompileStatic
class NucliSegHistory {

    /** Note that one of our scripts ran: `about` is shown, and the step's own script runs it again with these arguments. */
    static void add(ImageData imageData, String title, String script, List<String> arguments, Map<String, ?> about) {
        String again = "// NucliSeg QP: ${title}\nargs = [${arguments.collect { String it -> quoted(it) }.join(', ')}] as String[]\n" +
            "evaluate(new File(buildFilePath(PROJECT_BASE_DIR, 'scripts', '${script}')))"
        imageData.getHistoryWorkflow().addStep(new DefaultScriptableWorkflowStep("NucliSeg QP: ${title}", about, again))
    }

    private static String quoted(String text) {
        return "'" + text.replace('\\', '\\\\').replace("'", "\\'") + "'"
    }
}
