// A rotation of a key comes in two frames, and between them nobody is to be turned away.
import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import { Settled } from '../../../src/app/control/settled.ts'

describe('a changed trust set', () => {
  it('is judged when it stayed the same from one look to the next, or has changed at five looks in a row', () => {
    // The number of changes between two looks; a look at a version that was judged is not made (links.ts).
    fc.assert(
      fc.property(fc.array(fc.nat({ max: 2 }), { minLength: 1, maxLength: 40 }), (changes) => {
        const settled = new Settled()
        let version = 0
        let judged = 0
        let seen: number | undefined
        let changed = 0
        for (const count of changes) {
          version += count
          if (version === judged) continue
          changed = version === seen ? changed : changed + 1
          const isDue = settled.look(version)
          assert.equal(isDue, version === seen || changed >= 5)
          seen = version
          if (!isDue) continue
          judged = version
          changed = 0
        }
      })
    )
  })
})
