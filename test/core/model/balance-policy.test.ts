// The annotation rhizome.io/balance: what is understood, and that every other text has a fault that names it and the fix.
import assert from 'node:assert/strict'
import fc from 'fast-check'
import {
  BALANCE_ANNOTATION,
  BALANCE_CHARACTERS_MAX,
  namedClusters,
  parseBalance,
  type BalancePolicy,
  type Preference
} from '../../../src/core/model/balance-policy.ts'
import type { ClusterName } from '../../../src/core/model/values.ts'

const names = (...of: readonly string[]) => of as readonly ClusterName[]
const policy = (preference: Preference, only = names()): BalancePolicy => ({ only, preference })
const weights = (of: Readonly<Record<string, number>>): Preference => ({
  kind: 'weights',
  weights: new Map(Object.entries(of) as [ClusterName, number][])
})

describe('the annotation rhizome.io/balance', () => {
  const understood: readonly [text: string, is: BalancePolicy][] = [
    ['spread', policy({ kind: 'spread' })],
    ['nearest', policy({ kind: 'nearest' })],
    ['local-first', policy({ kind: 'local-first', ready: 1 })],
    [' local-first = 3 ', policy({ kind: 'local-first', ready: 3 })],
    ['only=east', policy({ kind: 'spread' }, names('east'))],
    ['failover=east, west', policy({ kind: 'failover', clusters: names('east', 'west') })],
    [
      'only=east,west; weights=east:90,west:10',
      policy(weights({ east: 90, west: 10 }), names('east', 'west'))
    ],
    ['weights=east:100,west:0;', policy(weights({ east: 100, west: 0 }))]
  ]
  for (const [text, is] of understood)
    it(`understands "${text}"`, () => assert.deepEqual(parseBalance(text), { kind: 'policy', policy: is }))

  it('names clusters in only and in the preference', () => {
    const named = (text: string) => {
      const parsed = parseBalance(text)
      return parsed.kind === 'policy' ? namedClusters(parsed.policy) : parsed.fault
    }
    assert.deepEqual(named('only=east,west; failover=west,north'), ['east', 'west', 'north'])
    assert.deepEqual(named('weights=east:1,west:0'), ['east', 'west'])
    assert.deepEqual(named('nearest'), [])
  })

  const faults: readonly [text: string, message: RegExp, fix: RegExp][] = [
    ['', /is empty/, /local-first/],
    ['round-robin', /unknown term "round-robin"/, /failover=/],
    ['only', /only without clusters/, /only=east,west/],
    ['nearest=east', /gives nearest a value/, /nearest alone/],
    ['nearest; local-first', /two preferences, nearest and local-first/, /keep one/],
    ['same-zone; spread; same-zone', /same-zone twice/, /once/],
    ['same-zone=a', /gives same-zone a value/, /write same-zone alone/],
    ['only=east; only=west', /only twice/, /one list/],
    ['local-first=0', /number "0"/, /from 1 to 1000/],
    ['weights=east', /no weight for "east"/, /east:90/],
    ['weights=east:1001', /number "1001"/, /from 0 to 1000/],
    ['weights=east:-1', /number "-1"/, /from 0 to 1000/],
    ['weights=east:0,west:0', /every cluster the weight 0/, /at least one/],
    ['weights=east:1,east:2', /cluster east twice/, /one weight/],
    ['failover=east,east', /cluster east twice/, /once/],
    ['failover=East', /"East", which is no name/, /meshctl peers/],
    ['only=all', /"all", which is no name/, /meshctl peers/],
    ['x'.repeat(BALANCE_CHARACTERS_MAX + 1), /1025 characters/, /at most 1024/]
  ]
  for (const [text, message, fix] of faults)
    it(`has a fault for "${text.slice(0, 40)}"`, () => {
      const parsed = parseBalance(text)
      assert.ok(parsed.kind === 'fault')
      assert.match(parsed.fault.message, message)
      assert.match(parsed.fault.fix, fix)
    })

  it('never throws, and every fault names the annotation and a fix, whatever another cluster writes', () => {
    const words = fc.constantFrom(
      'only',
      'weights',
      'failover',
      'east',
      'west',
      '=',
      ':',
      ',',
      ';',
      '9',
      '-',
      ' '
    )
    const text = fc.oneof(
      fc.string({ maxLength: 2000 }),
      fc.array(words, { maxLength: 60 }).map((all) => all.join(''))
    )
    fc.assert(
      fc.property(text, (given) => {
        const parsed = parseBalance(given)
        if (parsed.kind === 'policy') return
        assert.ok(parsed.fault.message.startsWith(BALANCE_ANNOTATION))
        assert.ok(parsed.fault.message.length < 300 && parsed.fault.fix !== '')
      })
    )
  })
})
