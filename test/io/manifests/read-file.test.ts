import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import { readYaml } from './read-yaml.ts'

describe('reading hostile YAML', () => {
  const bombs: Record<string, string> = {
    'an alias bomb': [
      'a: &a [x,x,x,x,x,x,x,x,x,x]',
      ...['b', 'c', 'd', 'e', 'f', 'g', 'h', 'i'].map(
        (key, index) => `${key}: &${key} [${Array<string>(10).fill(`*${'abcdefghi'[index]}`).join(',')}]`
      )
    ].join('\n'),
    'nesting deeper than the stack': '['.repeat(100_000),
    'nested mappings': Array.from({ length: 2000 }, (_, depth) => `${' '.repeat(depth)}a:`).join('\n'),
    'an alias to itself': 'a: &a [*a]',
    'a key given twice': 'kind: Service\nkind: Secret',
    'a mapping as a key': '{ { a: b }: c }',
    'an unknown alias': 'a: *nothing',
    'a tag that asks for code': 'a: !!js/function "function () {}"',
    'an overwritten prototype': '__proto__: { polluted: true }\nkind: Service\napiVersion: v1',
    'control characters': 'a: \u0000\u0007',
    'ten thousand documents and one': '---\n'.repeat(10_002)
  }
  for (const [title, text] of Object.entries(bombs)) {
    it(`survives ${title}`, () => {
      const { items } = readYaml(text, 'a.yaml')
      assert.ok(items.every(({ reading }) => reading.kind === 'problem' || reading.kind === 'ignored'))
      assert.equal(Object.hasOwn(Object.prototype, 'polluted'), false)
    })
  }

  it('never throws, whatever the text', () => {
    const unit = fc.constantFrom(
      'a',
      ':',
      ' ',
      '\n',
      '-',
      '[',
      '{',
      '}',
      ']',
      '&',
      '*',
      '!',
      '|',
      '"',
      '#',
      '\t'
    )
    fc.assert(fc.property(fc.string({ unit, maxLength: 60 }), (text) => void readYaml(text, 'a.yaml')))
  })

  it('tells the line of each document', () => {
    const { items } = readYaml('# first\n---\nkind: A\n---\nkind: B\n', 'a.yaml')
    assert.deepEqual(
      items.map(({ where }) => where).filter((where) => where !== 'line 1'),
      ['line 3', 'line 5']
    )
  })
})
