// How long a file, a class and a function of the source may be. Longer ones hold two ideas, or are a table: then they have a row with the reason.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { blocksOf } from './blocks.ts'
import { filesBelow } from './source.ts'

/**
 * Lines, with comments and blank ones: nine in ten files of src are below 270, nine in ten functions below 22. The named functions inside a
 * function are measured by themselves. With them, it may be as long as a class, which it is by another name: a factory.
 */
const LINES_MAX = { file: 400, class: 350, factory: 350, function: 60 }

/** "file" or "file: name" of what is longer, with the reason. */
const EXCEPTIONS: Readonly<Record<string, string>> = {
  'src/app/observe/metrics.ts: createMetrics': 'a table: one metric after the other, with its help',
  'src/io/host/filter/chains.ts: chains': 'a table: the rules of each chain of nftables as text',
  'src/io/kube/kube-source.ts: createKubeSource':
    'one line above the bound: the state of a source and the three reflectors that it joins'
}

describe('sizes', () => {
  const sizes = new Map(filesBelow('src').flatMap(sizesOf))
  const long = [...sizes].filter(([, { kind, lines }]) => lines > LINES_MAX[kind])

  it(`no file is longer than ${LINES_MAX.file} lines, no class than ${LINES_MAX.class}, no function than ${LINES_MAX.function}`, () => {
    assert.deepEqual(
      long
        .filter(([name]) => EXCEPTIONS[name] === undefined)
        .map(([name, { kind, lines }]) => `${name}: a ${kind} of ${lines} lines`),
      [],
      'find the second idea in it and give that a place of its own'
    )
  })

  it('no exception is short enough by now', () => {
    const names = new Set(long.map(([name]) => name))
    assert.deepEqual(
      Object.keys(EXCEPTIONS).filter((name) => !names.has(name)),
      [],
      'delete its row'
    )
  })
})

interface Size {
  readonly kind: keyof typeof LINES_MAX
  readonly lines: number
}

function sizesOf(file: string): readonly (readonly [string, Size])[] {
  const text = readFileSync(file, 'utf8')
  return [
    [file, { kind: 'file', lines: text.split('\n').length - 1 }],
    ...blocksOf(text).map(
      ({ kind, name, lines, ownLines }) => [`${file}: ${name}`, sizeOf(kind, lines, ownLines)] as const
    )
  ]
}

function sizeOf(kind: 'class' | 'function', lines: number, ownLines: number): Size {
  if (kind === 'class') return { kind, lines }
  return lines > LINES_MAX.factory ? { kind: 'factory', lines } : { kind, lines: ownLines }
}
