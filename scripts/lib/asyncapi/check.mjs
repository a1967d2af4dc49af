// check.mjs DOCUMENT: reads an AsyncAPI document with the AsyncAPI parser, then validates every example of a message against the
// message's own schema, and what an example carries in base64 against the schema of that. The parser does not do the latter.
// One line for each finding; exit code 1 if any is an error or a warning.

import { readFileSync } from 'node:fs';
import { Parser } from '@asyncapi/parser';
import { Ajv } from 'ajv';
import addFormats from 'ajv-formats';

const SEVERITIES = ['error', 'warning', 'info', 'hint'];
const SILENT = new Set([
  // 3.0.0 is what generators and documentation tools know; what 3.1.0 adds concerns other protocols.
  'asyncapi-latest-version',
]);

const findings = [];
const find = (severity, path, what) => findings.push({ severity, path: path.join('.'), what });

const text = readFileSync(process.argv[2], 'utf8');
const { document, diagnostics } = await new Parser().parse(text);
for (const { code, severity, path, message } of diagnostics) {
  if (!SILENT.has(code)) find(SEVERITIES[severity], path, `${message} (${code})`);
}

// "examples", "contentSchema" and the parser's own notes are no keywords of Ajv's strict mode.
const ajv = new Ajv({ allErrors: true, strict: false });
addFormats(ajv);
// As it is written: with its references resolved, as the parser has it, a schema that refers to itself has no end.
const written = JSON.parse(text);
const DOCUMENT = 'asyncapi.json';
let examples = 0;

function validate(pointer, value, path) {
  examples += 1;
  const fits = ajv.compile({ $ref: `${DOCUMENT}#${pointer}` });
  if (!fits(value)) fits.errors.forEach((error) => find('error', path, `${error.instancePath || '/'} ${error.message}`));
}

const level = (name) => `/${name.replaceAll('~', '~0').replaceAll('/', '~1')}`;
const at = (pointer) =>
  pointer
    .split('/')
    .slice(1)
    .reduce((found, name) => found?.[name.replaceAll('~1', '/').replaceAll('~0', '~')], written);

// [name, pointer to its schema] of what an object of this schema holds.
function properties(pointer) {
  const schema = at(pointer) ?? {};
  if (schema.$ref !== undefined) return properties(schema.$ref.slice(1));
  const own = Object.keys(schema.properties ?? {}).map((name) => [name, `${pointer}/properties${level(name)}`]);
  return [...own, ...(schema.allOf ?? []).flatMap((_, index) => properties(`${pointer}/allOf/${index}`))];
}

if (document !== undefined) ajv.addSchema({ components: written.components }, DOCUMENT);
for (const message of document?.allMessages() ?? []) {
  const pointer = `/components/messages${level(message.id())}/payload`;
  if (message.examples().isEmpty()) find('warning', ['messages', message.id()], 'has no example');
  for (const example of message.examples()) {
    const path = ['messages', message.id(), 'examples', example.name()];
    validate(pointer, example.payload(), path);
    for (const [name, property] of properties(pointer)) {
      if (at(property).contentSchema === undefined) continue;
      let held;
      try {
        held = JSON.parse(Buffer.from(example.payload()[name] ?? '', 'base64').toString('utf8'));
      } catch (error) {
        find('error', [...path, name], `holds no JSON: ${error.message}`);
        continue;
      }
      validate(`${property}/contentSchema`, held, [...path, name]);
    }
  }
}

for (const { severity, path, what } of findings) console.log(`${severity}: ${path}: ${what}`);
const failed = findings.some(({ severity }) => severity === 'error' || severity === 'warning');
if (!failed) console.log(`${process.argv[2]}: no errors, no warnings; ${examples} examples fit their schemas`);
process.exitCode = failed ? 1 : 0;
