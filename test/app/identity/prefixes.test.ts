// The prefixes that are chosen for a cluster: from the pools, and within those that a seat may give.
import assert from 'node:assert/strict'
import fc from 'fast-check'
import { choosePrefixes } from '../../../src/app/identity/prefixes.ts'
import { cidrContains, cidrOverlaps } from '../../../src/core/model/cidr.ts'
import type { Cidr } from '../../../src/core/model/values.ts'

const NONE = { podCidrs: [], serviceCidrs: [] }
const cidr = (text: string) => text as Cidr
const chosen = (within: readonly string[] | undefined, taken: readonly string[] = []) => {
  const { podPrefixes, servicePrefixes } = choosePrefixes(
    NONE,
    taken.map(cidr),
    within === undefined ? {} : { within: within.map(cidr) }
  )
  return [...podPrefixes, ...servicePrefixes]
}

describe('the prefixes that are chosen', () => {
  for (const [what, within, expected] of [
    ['come from the pools', undefined, ['10.128.0.0/16', '10.192.0.0/16']],
    ['come from the pools for a seat with all', ['0.0.0.0/0', '::/0'], ['10.128.0.0/16', '10.192.0.0/16']],
    ['lie in the part of the pools that a seat has', ['10.0.0.0/8'], ['10.128.0.0/16', '10.192.0.0/16']],
    ['lie in a seat outside the pools', ['10.64.0.0/10'], ['10.64.0.0/16', '10.65.0.0/16']],
    ['are smaller where the seat has one /16', ['10.77.0.0/16'], ['10.77.0.0/20', '10.77.16.0/20']],
    ['lie in a seat with IPv6 alone', ['fd00:7::/48'], ['fd00:7::/64', 'fd00:7:0:1::/64']],
    ['lie in one pool where the seat has that only', ['10.128.0.0/16'], ['10.128.0.0/20', '10.128.16.0/20']]
  ] as const)
    it(what, () => assert.deepEqual(chosen(within), expected))

  it('are the next free ones', () =>
    assert.deepEqual(chosen(['10.64.0.0/10'], ['10.64.0.0/15', '10.67.0.0/16']), [
      '10.66.0.0/16',
      '10.68.0.0/16'
    ]))

  it('BAD_ARGUMENT when the seat has no room, or prefixes that are too small or hold the Internet', () => {
    for (const within of [['10.77.0.0/25'], ['::/0'], []])
      assert.throws(() => chosen(within), { code: 'BAD_ARGUMENT', fix: /within the rights of the seat/ })
    assert.throws(() => chosen(['10.77.0.0/16'], ['10.77.0.0/17', '10.77.128.0/17']), {
      code: 'BAD_ARGUMENT'
    })
  })

  it('lie within the seat, and overlap neither each other nor what is taken', () => {
    const some = fc
      .tuple(fc.integer({ min: 0, max: 255 }), fc.constantFrom(16, 18, 20))
      .map(([byte, length]) => `10.${byte}.0.0/${length}`)
    fc.assert(
      fc.property(
        fc.array(some, { minLength: 1, maxLength: 4 }),
        fc.array(some, { maxLength: 6 }),
        (within, taken) => {
          let found: readonly Cidr[]
          try {
            found = chosen(within, taken)
          } catch {
            return // no room is left
          }
          const [pod, service] = found
          assert.ok(pod !== undefined && service !== undefined && !cidrOverlaps(pod, service))
          for (const one of found) {
            assert.ok(within.some((outer) => cidrContains(cidr(outer), one)))
            assert.ok(taken.every((other) => !cidrOverlaps(cidr(other), one)))
          }
        }
      )
    )
  })
})
