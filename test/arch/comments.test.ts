// How much of the source explains it: nine models of the field lie between 13 and 37 % (docs/decisions), and below 15 % a newcomer reads code to learn a unit or a reason.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { filesBelow } from './source.ts'

/** Comment lines of each folder, as a share of its lines that are not blank. */
const SHARE_MIN = 0.15

describe('comments', () => {
  const folders = Map.groupBy(filesBelow('src'), dirname)

  it(`are at least ${100 * SHARE_MIN} % of the lines of each folder of src`, () => {
    const shares = [...folders].map(([folder, files]) => {
      const lines = files.flatMap(linesOf)
      return { folder, share: lines.filter(({ isComment }) => isComment).length / lines.length }
    })
    assert.deepEqual(
      shares
        .filter(({ share }) => share < SHARE_MIN)
        .map(({ folder, share }) => `${folder}: ${(100 * share).toFixed(1)} %`),
      [],
      'say what its files do, and the shapes, units, errors and sources of what they export'
    )
  })

  it('name no person who is not known', () => {
    const vague = filesBelow('src').flatMap((file) =>
      linesOf(file)
        .filter(({ text, isComment }) => isComment && /\b(whoever|nobody|somebody)\b(?!\))/i.test(text))
        .map(({ text }) => `${file}: ${text}`)
    )
    assert.deepEqual(vague, [], 'name the agent, the member, the pod, the user or the process')
  })
})

interface Line {
  readonly text: string
  readonly isComment: boolean
}

/** The lines of a file that are not blank. Prettier puts a comment of several lines on lines of its own. */
function linesOf(file: string): readonly Line[] {
  let inBlock = false
  return readFileSync(file, 'utf8')
    .split('\n')
    .filter((text) => text.trim() !== '')
    .map((text) => {
      const trimmed = text.trim()
      const isComment = inBlock || trimmed.startsWith('//') || trimmed.startsWith('/*')
      if (isComment && !trimmed.startsWith('//')) inBlock = !trimmed.endsWith('*/')
      return { text, isComment }
    })
}
