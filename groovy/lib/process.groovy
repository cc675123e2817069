import groovy.transform.CompileStatic

import java.nio.charset.StandardCharsets
import java.nio.file.Path
import java.util.concurrent.BlockingQueue
import java.util.concurrent.LinkedBlockingQueue
import java.util.concurrent.TimeUnit

/** A program of its own: what it says comes line by line, what it complains about goes to a file. */
@CompileStatic
class NucliSegProcess {

    /** The last line, after which it says no more. */
    static final String END = '\u0000end'
    private static final int PATIENCE_SECONDS = 3

    private final Process process
    private final BlockingQueue<String> lines

    /** @param isolated keep its Python away from settings of another one */
    NucliSegProcess(List<String> command, Path folder, Path complaints, boolean isolated) {
        ProcessBuilder builder = new ProcessBuilder(command)
        if (isolated)
            cleanEnvironment(builder.environment(), command[0])
        builder.directory(folder.toFile())
        builder.redirectError(complaints.toFile())
        process = builder.start()
        lines = reading(process.getInputStream())
    }

    static String system() {
        String name = System.getProperty('os.name').toLowerCase(Locale.ENGLISH)
        return name.contains('win') ? 'windows' : name.contains('mac') ? 'mac' : 'linux'
    }

    /** Give the next line, null when there is none within so many milliseconds. */
    String line(long patience) {
        return lines.poll(patience, TimeUnit.MILLISECONDS)
    }

    int waitFor() {
        return process.waitFor()
    }

    void closeInput() {
        try {
            process.getOutputStream().close()
        } catch (IOException ignored) {
            // It is gone already.
            process.destroy()
        }
    }

    /** Tell it something; false when it does not listen any more. */
    boolean say(String line) {
        try {
            process.getOutputStream().write((line + '\n').getBytes(StandardCharsets.UTF_8))
            process.getOutputStream().flush()
            return true
        } catch (IOException ignored) {
            return false
        }
    }

    private static void cleanEnvironment(Map<String, String> environment, String program) {
        environment.remove('PYTHONHOME')
        environment.remove('PYTHONPATH')
        environment.put('PYTHONNOUSERSITE', '1')
        environment.put('PYTHONUNBUFFERED', '1')
        environment.put('PYTHONUTF8', '1')
        if (system() != 'windows')
            return
        // Libraries for the GPU lie in these folders, which activating the environment would add.
        File home = new File(program).getParentFile()
        if (home == null)
            return
        String name = environment.keySet().find { String it -> it.equalsIgnoreCase('PATH') } ?: 'PATH'
        List<String> folders = [home.getPath(), new File(new File(home, 'Library'), 'bin').getPath(), new File(home, 'Scripts').getPath()]
        environment.put(name, (folders + [environment.get(name) ?: '']).join(';'))
    }

    private static BlockingQueue<String> reading(InputStream stream) {
        BlockingQueue<String> lines = new LinkedBlockingQueue<>(10000)
        Thread reader = new Thread({
            try {
                stream.eachLine('UTF-8') { String line -> lines.put(line) }
            } catch (IOException | InterruptedException ignored) {
                // The process was ended; there is nothing more to read.
                lines.clear()
            }
            lines.offer(END)
        } as Runnable, 'NucliSeg QP engine')
        reader.setDaemon(true)
        reader.start()
        return lines
    }

    /** End it and all that it started, politely first. */
    void end() {
        List<ProcessHandle> all = [process.toHandle()]
        process.descendants().forEach { ProcessHandle it -> all.add(it) }
        closeInput()
        boolean interrupted = Thread.interrupted()
        all.each { ProcessHandle it -> it.destroy() }
        interrupted = waitForAll(all) || interrupted
        all.each { ProcessHandle it -> it.destroyForcibly() }
        interrupted = waitForAll(all) || interrupted
        if (interrupted)
            Thread.currentThread().interrupt()
    }

    /** Wait a little for processes to end; tells whether somebody interrupted the wait. */
    private static boolean waitForAll(List<ProcessHandle> all) {
        boolean interrupted = false
        long limit = System.nanoTime() + TimeUnit.SECONDS.toNanos(PATIENCE_SECONDS)
        while (all.any { ProcessHandle it -> it.isAlive() } && System.nanoTime() < limit)
            interrupted = pause() || interrupted
        return interrupted
    }

    private static boolean pause() {
        try {
            Thread.sleep(20)
            return false
        } catch (InterruptedException ignored) {
            return true
        }
    }
}
