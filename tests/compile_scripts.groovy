/*
 * Compiles scripts and prints what is wrong with them; test_groovy.py runs it with several Groovy versions.
 *
 * Arguments: "syntax" (no QuPath needed) or "types" (QuPath's classes on the class path: finds calls
 * of methods that it does not have), then the scripts.
 */
import org.codehaus.groovy.control.CompilationFailedException
import org.codehaus.groovy.control.CompilationUnit
import org.codehaus.groovy.control.CompilerConfiguration
import org.codehaus.groovy.control.Phases
import org.codehaus.groovy.control.customizers.ASTTransformationCustomizer
import org.codehaus.groovy.control.customizers.ImportCustomizer

println "groovy ${GroovySystem.version}"
boolean types = args[0] == 'types'
for (String path : args.drop(1)) {
    def configuration = new CompilerConfiguration()
    configuration.sourceEncoding = 'UTF-8'
    if (types) {
        def imports = new ImportCustomizer()
        imports.addStaticStars('qupath.lib.scripting.QP')
        configuration.addCompilationCustomizers(imports)
        configuration.addCompilationCustomizers(new ASTTransformationCustomizer(groovy.transform.TypeChecked))
    }
    def unit = new CompilationUnit(configuration, null, new GroovyClassLoader(this.class.classLoader))
    unit.addSource(new File(path))
    try {
        unit.compile(types ? Phases.CLASS_GENERATION : Phases.CONVERSION)
        println "ok ${path}"
    } catch (CompilationFailedException problem) {
        println "PROBLEM ${path}\n${problem.message}"
    }
}
