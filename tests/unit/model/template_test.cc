#include "model/template.h"

#include <doctest/doctest.h>

using namespace cctl;

namespace {

using Object = TemplateValue::Object;
using List = TemplateValue::List;

TemplateContext scope() {
  return Object{
      {"name", "solver"},
      {"html", "<a href=\"x\">&'</a>"},
      {"empty", ""},
      {"yes", true},
      {"no", false},
      {"on", TemplateValue::Flag{"true", true}},
      {"off", TemplateValue::Flag{"false", false}},
      {"port", Object{{"main", "80"}, {"admin", "81"}}},
      {"none", List{}},
      {"words", List{"a", "b", "c"}},
      {"services",
       Object{
           {"puzzle-store",
            List{Object{{"address", "10.0.0.1"}, {"port", Object{{"main", "1"}}}, {"last", false}},
                 Object{
                     {"address", "10.0.0.2"}, {"port", Object{{"main", "2"}}}, {"last", true}}}}}}};
}

std::string textOf(const Problems& problems) {
  std::string text;
  for (const Problem& problem : problems.sorted()) text += problem.text() + "\n";
  return text;
}

std::string render(std::string_view text, const Location& where = {"t", 0, 0}) {
  Problems problems;
  std::string rendered = renderTemplate(text, where, scope(), problems);
  return problems.empty() ? rendered : textOf(problems);
}

std::string check(std::string_view text) {
  Problems problems;
  checkTemplate(text, {"t", 0, 0}, scope(), problems);
  return textOf(problems);
}

}  // namespace

TEST_CASE("templates render") {
  const std::pair<const char*, const char*> cases[] = {
      {"", ""},
      {"plain { } } text", "plain { } } text"},
      {"{{name}}", "solver"},
      {"{{ name }}:{{port.main}}", "solver:80"},
      {"{{html}} {{{html}}} {{&html}}",
       "<a href=\"x\">&'</a> <a href=\"x\">&'</a> <a href=\"x\">&'</a>"},
      {"[{{empty}}]", "[]"},
      {"{{on}} {{off}}", "true false"},
      {"{{#yes}}y{{/yes}}{{#no}}n{{/no}}{{^no}}N{{/no}}", "yN"},
      {"{{#on}}y{{/on}}{{#off}}n{{/off}}{{^off}}N{{/off}}", "yN"},
      {"{{#name}}[{{.}}]{{/name}}{{#empty}}x{{/empty}}{{^empty}}E{{/empty}}", "[solver]E"},
      {"{{#words}}{{.}},{{/words}}{{^words}}none{{/words}}", "a,b,c,"},
      {"{{#none}}x{{/none}}{{^none}}none{{/none}}", "none"},
      {"{{#port}}{{main}} {{admin}} {{name}}{{/port}}", "80 81 solver"},
      {"{{#services.puzzle-store}}{{address}}:{{port.main}}{{^last}},{{/last}}{{/"
       "services.puzzle-store}}",
       "10.0.0.1:1,10.0.0.2:2"},
      {"{{#words}}{{#words}}{{.}}{{/words}} {{/words}}", "abc abc abc "},
      {"a\n{{#words}}\n- {{.}}\n{{/words}}\nb\n", "a\n- a\n- b\n- c\nb\n"},
      {"a\n  {{! a comment\n over lines }}  \nb", "a\nb"},
      {"a {{! x }}b", "a b"},
      {"{{! {{ }}x", "x"},
      {"{{! only }}", ""},
      {"äöü{{name}}€", "äöüsolver€"},
      {"{{name}}}", "solver}"},
      {"a\r\n{{#yes}}\r\nb\r\n{{/yes}}\r\n", "a\r\nb\r\n"},
  };
  for (const auto& one : cases) {
    const auto& text = one.first;
    const auto& result = one.second;
    CHECK_MESSAGE(render(text) == result, std::string(text));
  }
}

TEST_CASE("what is wrong in a template is said with its line and column") {
  const std::pair<const char*, const char*> cases[] = {
      {"x\nä {{nmae}}", "t:2:3: unknown name \"nmae\"; did you mean \"name\"?\n"},
      {"{{port.mian}}", "t:1:1: unknown name \"port.mian\"; did you mean \"port.main\"?\n"},
      {"{{name.x}}", "t:1:1: unknown name \"name.x\"; define it, or remove the tag\n"},
      {"{{port.x}}", "t:1:1: unknown name \"port.x\"; name that port in ports\n"},
      {"{{services.x}}", "t:1:1: unknown name \"services.x\"; name that service in depends_on\n"},
      {"{{port}}",
       "t:1:1: \"port\" is an object, which has no text; use it as a section: "
       "{{#port}}…{{/port}}\n"},
      {"{{words}}",
       "t:1:1: \"words\" is a list, which has no text; use it as a section: "
       "{{#words}}…{{/words}}\n"},
      {"{{yes}}",
       "t:1:1: \"yes\" is true or false, which has no text; use it as a section: "
       "{{#yes}}…{{/yes}}\n"},
      {"{{name", "t:1:1: this tag has no }}; close it\n"},
      {"{{{name}}", "t:1:1: this tag has no }}}; close it\n"},
      {"{{}}",
       "t:1:1: \"\" is not a name; write like {{port.main}}; other text with two braces "
       "cannot stand here\n"},
      {"{{a b}}",
       "t:1:1: \"a b\" is not a name; write like {{port.main}}; other text with two "
       "braces cannot stand here\n"},
      {"{{#yes}}", "t:1:1: section yes is never closed; add {{/yes}}\n"},
      {"{{/yes}}", "t:1:1: {{/yes}} closes nothing; remove it\n"},
      {"{{#yes}}{{#on}}{{/yes}}{{/on}}",
       "t:1:16: {{/yes}} where {{/on}} is due; close sections from "
       "the innermost outwards\n"},
      {"{{> file}}", "t:1:1: partials ({{>…}}) are not taken; write the text out\n"},
      {"{{=<% %>=}}", "t:1:1: other delimiters ({{=…=}}) are not taken; use {{ and }}\n"},
      {"{{a..b}}",
       "t:1:1: \"a..b\" is not a name; write like {{port.main}}; other text with two "
       "braces cannot stand here\n"},
      {"{{#services.puzzle-store}}{{port.admin}}{{/services.puzzle-store}}",
       "t:1:27: unknown name \"port.admin\"; name that port in ports\n"},
  };
  for (const auto& one : cases) {
    const auto& text = one.first;
    const auto& result = one.second;
    const std::string rendered = render(text), checked = check(text);
    CHECK_MESSAGE(rendered.find(result) == 0, std::string(text), " → ", rendered);
    CHECK_MESSAGE(checked.find(result) == 0, std::string(text), " → ", checked);
  }
}

TEST_CASE("checking looks into sections that would not show") {
  CHECK(check("{{#no}}{{nope}}{{/no}}") != "");
  CHECK(render("{{#no}}{{nope}}{{/no}}") == "");
  CHECK(check("{{^words}}{{nope}}{{/words}}") != "");
  CHECK(check("{{#none}}{{anything}} {{.}} {{#x}}{{y}}{{/x}}{{/none}}") == "");
  CHECK(check("{{#words}}{{.}}{{name}}{{/words}}") == "");
  CHECK(check("{{#services.puzzle-store}}{{adress}}{{/services.puzzle-store}}") ==
        "t:1:27: unknown name \"adress\"; did you mean \"address\"?\n");
}

TEST_CASE("a problem in a text of the manifest has the place of that text") {
  CHECK(render("x {{qqq}}", {"m.yaml", 3, 7}) ==
        "m.yaml:3:7: unknown name \"qqq\"; known here: empty, html, name, no, none, off, on, port, "
        "services, words, yes\n");
}

TEST_CASE("templates cannot take the machine down") {
  std::string deep;
  for (int i = 0; i < 100'000; ++i) deep += "{{#yes}}";
  CHECK(render(deep).find("sections nested deeper than 32") != std::string::npos);
  std::string bomb;
  for (int i = 0; i < 31; ++i) bomb += "{{#words}}";
  bomb += "x";
  for (int i = 0; i < 31; ++i) bomb += "{{/words}}";
  CHECK(render(bomb).find("renders to more than 64 MiB") != std::string::npos);
  std::string unknown =
      "{{#words}}{{#words}}{{#words}}{{#words}}{{#words}}{{#words}}{{qqq}}"
      "{{/words}}{{/words}}{{/words}}{{/words}}{{/words}}{{/words}}";
  CHECK(render(unknown) ==
        "t:1:61: unknown name \"qqq\"; known here: empty, html, name, no, none, off, on, port, "
        "services, words, yes\n");
}
