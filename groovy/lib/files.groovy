import groovy.transform.CompileStatic

import java.nio.charset.StandardCharsets
import java.nio.file.Files
import java.nio.file.Path
import java.nio.file.StandardCopyOption

import qupath.lib.projects.ProjectImageEntry

// include: lib/json.groovy
// include: lib/problem.groovy

/** The files of ours in the folder "nucliseg" beside a project. */
@CompileStatic
class NucliSegFiles {

    static final String FOLDER = 'nucliseg'

    static Path folder(ProjectImageEntry entry) {
        return entry.getEntryPath().getParent().getParent().resolve(FOLDER)
    }

    /** Give what a JSON file holds, null when there is none. */
    static Map<String, Object> read(Path path) {
        if (!Files.exists(path))
            return null
        try {
            return (Map<String, Object>) NucliSegJson.read(new String(Files.readAllBytes(path), StandardCharsets.UTF_8))
        } catch (RuntimeException | IOException e) {
            throw new NucliSegProblem("${path} is damaged (${e.getMessage()}). Make it again, or remove it.")
        }
    }

    static void writeJson(Path path, Map<String, Object> content) {
        write(path) { OutputStream out -> out.write(NucliSegJson.writePretty(content).getBytes(StandardCharsets.UTF_8)) }
    }

    /** Write a file so that it is whole or not there; `fill` gets its stream. */
    static void write(Path path, Closure fill) {
        try {
            Files.createDirectories(path.getParent())
            Path partial = path.resolveSibling('.' + path.getFileName() + '.part')
            Files.newOutputStream(partial).withStream(fill)
            Files.move(partial, path, StandardCopyOption.REPLACE_EXISTING)
        } catch (IOException e) {
            throw new NucliSegProblem("${path} cannot be written (${e}). Is the project read-only, or the disk full?")
        }
    }

    static void remove(Path folder) {
        folder.toFile().deleteDir()
    }
}
