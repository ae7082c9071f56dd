// The page of settings and metrics has a row for each of them, as the source has it.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { REFERENCE, referencePage } from '../../build/reference.ts'

describe('docs/reference.md', () => {
  it('has each setting and each metric as the source has them', async () => {
    assert.equal(readFileSync(REFERENCE, 'utf8'), await referencePage(), 'run `node build/reference.ts`')
  })
})
