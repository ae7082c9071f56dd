import assert from 'node:assert/strict'
import { blocksOf } from './blocks.ts'

const TEXT = `export class Kept {
  readonly #of: number

  async *walk(
    from: number,
    to: number
  ): AsyncGenerator<number> {
    for (const at of [from, to]) {
      yield at
    }
  }

  onEvent = (event: string): void => {
    this.take(event, (text) => {
      return text
    })
  }
}

export function createOne({ size }: { readonly size: number }): One {
  const names = {
    size
  }
  return { get, names }

  function get(): number {
    return size
  }
}
`

describe('the blocks of a text', () => {
  it('are its classes, methods, functions and callbacks, whatever the form of their heads', () => {
    assert.deepEqual(
      blocksOf(TEXT).map(({ kind, name, lines, ownLines }) => [kind, name, lines, ownLines]),
      [
        ['class', 'Kept', 18, 5],
        ['function', 'walk', 8, 8],
        ['function', 'onEvent', 5, 5],
        ['function', 'callback, line 14', 3, 3],
        ['function', 'createOne', 10, 7],
        ['function', 'get', 3, 3]
      ]
    )
  })
})
