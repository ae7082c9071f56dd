// Plain words of YAML against the real kubectl, which prints what it has read: numbers, booleans, texts.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { parseYaml } from '../../src/io/manifests/parse-yaml.ts'
import { labProgram } from './support/coredns.ts'

// Nearly a number, a word of YAML 1.1, a date, a time.
const word = fc.oneof(
  fc.stringMatching(/^[-+.]?[0-9_.eExXoObBaAfF+-]{1,8}$/),
  fc.stringMatching(/^[-+]?0[xXoObB]?[0-9a-fA-F_]{0,5}$/),
  fc.stringMatching(/^[0-9]{1,4}[-:][0-9]{1,2}[-:.][0-9]{1,2}$/),
  fc.stringMatching(/^[-+]?[0-9]{1,25}(\.[0-9]{0,20})?([eE][-+]?[0-9]{1,3})?$/),
  fc
    .constantFrom('y', 'n', 'yes', 'no', 'on', 'off', 'true', 'false', 'null', '~', 'inf', 'nan', 'infinity')
    .chain((text) =>
      fc.constantFrom(text, text.toUpperCase(), `${text[0]?.toUpperCase()}${text.slice(1)}`, `.${text}x`)
    )
)
// Marks of YAML itself: a list item, a mapping, the end of a document.
const isWord = (text: string): boolean => !/^[-?:]$|^(?:---|\.\.\.)|:$/.test(text)

describe('words of YAML beside the real kubectl', function () {
  this.timeout(60 * 60_000)

  it('are the same values', async () => {
    const kubectl = await labProgram('kubectl')
    const folder = mkdtempSync(join(tmpdir(), 'rhizome-yaml-'))
    try {
      const words = [...new Set(fc.sample(word, Number(process.env['WORDS'] ?? 5000)).filter(isWord))]
      const file = join(folder, 'words.yaml')
      const list = words.map((text) => `  - ${text}\n`).join('')
      writeFileSync(file, `apiVersion: x.example/v1\nkind: Words\nmetadata: {name: words}\nspec:\n${list}`)
      const printed = execFileSync(kubectl, ['label', '--local', '-f', file, 'a=b', '-o', 'json'], {
        encoding: 'utf8',
        maxBuffer: 64 * 1024 * 1024
      })
      const theirs = (JSON.parse(printed) as { spec: unknown[] }).spec
      assert.equal(theirs.length, words.length)
      const wrong = words.flatMap((text, at) => {
        const parsed = parseYaml(`- ${text}\n`)
        const [ours] = parsed.kind === 'object' ? (parsed.object as unknown[]) : [parsed.message]
        return Object.is(ours, theirs[at]) || (ours === 0 && theirs[at] === 0)
          ? []
          : [[text, ours, theirs[at]]]
      })
      assert.deepEqual(wrong, [])
    } finally {
      rmSync(folder, { recursive: true })
    }
  })
})
