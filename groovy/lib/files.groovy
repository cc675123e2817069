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

    /** Write JSON so that the file is whole or not there. */
    static void write(Path path, Map<String, Object> content) {
        writeText(path, NucliSegJson.writePretty(content))
    }

    static void writeText(Path path, String text) {
        try {
            Files.createDirectories(path.getParent())
            Path partial = path.resolveSibling('.' + path.getFileName() + '.part')
            Files.write(partial, text.getBytes(StandardCharsets.UTF_8))
            Files.move(partial, path, StandardCopyOption.REPLACE_EXISTING)
        } catch (IOException e) {
            throw new NucliSegProblem("${path} cannot be written (${e}). Is the project read-only, or the disk full?")
        }
    }

    static void remove(Path folder) {
        folder.toFile().deleteDir()
    }
}
