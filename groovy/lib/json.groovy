import com.google.gson.Gson
import com.google.gson.GsonBuilder
import com.google.gson.JsonParseException
import com.google.gson.JsonPrimitive
import com.google.gson.JsonSerializer
import com.google.gson.ToNumberPolicy
import com.google.gson.stream.JsonReader
import groovy.transform.CompileStatic

import java.lang.reflect.Type
import java.util.regex.Matcher

/** Reads and writes JSON with what comes with every QuPath: Gson does, Groovy's own JSON classes do not. */
@CompileStatic
class NucliSegJson {

    private static final Gson PLAIN = builder().create()
    private static final Gson PRETTY = builder().setPrettyPrinting().create()

    private static GsonBuilder builder() {
        JsonSerializer text = { Object it, Type kind, Object context -> new JsonPrimitive(it.toString()) } as JsonSerializer
        return new GsonBuilder().disableHtmlEscaping().serializeNulls()
            .setObjectToNumberStrategy(ToNumberPolicy.LONG_OR_DOUBLE)
            .registerTypeHierarchyAdapter(GString, text)
    }

    /** Give maps, lists, texts, and numbers as Long or Double; throws JsonParseException when it is not JSON to the end. */
    static Object read(String text) {
        try {
            // Gson's own fromJson takes nearly everything for JSON; its reader does not.
            JsonReader reader = new JsonReader(new StringReader(text))
            Object content = PLAIN.getAdapter(Object).read(reader)
            // It does not look past the end either, unless it is asked.
            reader.peek()
            return content
        } catch (IOException | RuntimeException e) {
            Matcher place = String.valueOf(e.getMessage()) =~ /line \d+ column \d+/
            throw new JsonParseException('not JSON' + (place.find() ? ' at ' + place.group() : ''), e)
        }
    }

    static String write(Object content) {
        return ascii(PLAIN.toJson(content))
    }

    static String writePretty(Object content) {
        return ascii(PRETTY.toJson(content))
    }

    /** On its way to another computer, a text of plain letters needs no agreement on how others are written. */
    private static String ascii(String text) {
        StringBuilder plain = new StringBuilder(text.length())
        for (int i = 0; i < text.length(); i++) {
            char one = text.charAt(i)
            if (one < (char) 127)
                plain.append(one)
            else
                plain.append(String.format('\\u%04x', (int) one))
        }
        return plain.toString()
    }
}
