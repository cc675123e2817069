/*
 * NucliSeg QP: check installation
 *
 * Finds the engine, its version and its device, looks at QuPath and the project, and says what to fix.
 * Nothing is changed.
 *
 * Works in QuPath 0.5.1, 0.6 and 0.7, with and without the graphical interface.
 */

import groovy.transform.CompileStatic

import java.nio.file.Files
import java.nio.file.Path

import qupath.lib.common.GeneralTools
import qupath.lib.projects.Project

import static qupath.lib.scripting.QP.getProject

// include: lib/engine.groovy
// include: lib/json.groovy
// include: lib/window.groovy

List<String> given = NucliSegWindow.arguments(binding)
boolean interactive = NucliSegWindow.gui() != null && given.isEmpty()
try {
    List<String> lines = new NucliSegCheck(getProject()).run()
    lines.each { String it -> println "NucliSeg QP: ${it}" }
    if (interactive)
        NucliSegWindow.showMessage(lines.join('\n'))
} catch (NucliSegProblem problem) {
    println NucliSegWindow.tell(problem, interactive, null)
}


/** Looks at everything a detection needs. */
@CompileStatic
class NucliSegCheck {

    private static final int PATIENCE_SECONDS = 180

    private final Project project
    private final List<String> lines = []
    private final List<String> problems = []

    NucliSegCheck(Project project) {
        this.project = project
    }

    List<String> run() {
        if (project == null)
            throw new NucliSegProblem('no project is open. Make one (File > Project > Create project) or open one first.')
        lines.add('QuPath ' + GeneralTools.getVersion() + ', Java ' + System.getProperty('java.version') + ', ' +
            Math.round(Runtime.getRuntime().maxMemory() / 1.0e9d) + ' GB for QuPath')
        Path folder = project.getPath().getParent().resolve(NucliSegFiles.FOLDER)
        NucliSegEngine engine = NucliSegEngine.find(folder)
        lines.add('engine: ' + engine.command.join(' ') + (engine.remote ? ' (on another computer)' : ''))
        Path temporary = Files.createTempDirectory('nucliseg-qp-')
        try {
            ask(engine, temporary)
        } finally {
            NucliSegFiles.remove(temporary)
        }
        if (!problems.isEmpty())
            throw new NucliSegProblem('to fix:\n' + problems.join('\n') + '\n\nWhat was found:\n' + lines.join('\n'))
        // First, because a dialog may show the first lines only.
        return ['all is well'] + lines
    }

    private void ask(NucliSegEngine engine, Path temporary) {
        Map<String, Object> version = engine.ask(['--version'], temporary, PATIENCE_SECONDS)
        if (version.get('code') != 0)
            throw new NucliSegProblem("the engine does not start (exit code ${version.get('code')}): ${version.get('log')}. " +
                "Is nucliseg-qp installed in that environment? Install it there, or name another one:  ${engine.install} --engine FOLDER")
        lines.add(String.valueOf(version.get('text')).trim())
        Map<String, Object> answer = engine.ask(['doctor', '--json'], temporary, PATIENCE_SECONDS)
        for (Object item : checks((String) answer.get('text'))) {
            Map check = (Map) item
            lines.add("${check.get('name')}: ${check.get('seen')}".toString())
            if (check.get('status') == 'fail')
                problems.add("${check.get('name')}: ${check.get('fix')}".toString())
        }
        Map<String, Object> served = engine.ask(['run-request', '--help'], temporary, PATIENCE_SECONDS)
        if (served.get('code') != 0)
            problems.add('the engine is too old for these scripts: pip install -U nucliseg-qp')
    }

    private static List checks(String text) {
        try {
            return (List) ((Map) NucliSegJson.read(text)).get('checks')
        } catch (RuntimeException e) {
            throw new NucliSegProblem("the engine's answer is not understood (${e.getMessage()}). Bring it up to date:  pip install -U nucliseg-qp")
        }
    }
}
