// Which clusters answer a balanced service: the table of policies, and what holds for every policy and every state.
import assert from 'node:assert/strict'
import fc from 'fast-check'
import { chooseClusters, type Candidate, type ClusterShare } from '../../../src/core/host/cluster-choice.ts'
import { parseBalance, type BalancePolicy } from '../../../src/core/model/balance-policy.ts'
import type { ClusterName } from '../../../src/core/model/values.ts'

const CLUSTERS = (['east', 'edge', 'north', 'west'] as const).map((name) => name as string as ClusterName)

function policyOf(text: string): BalancePolicy {
  const parsed = parseBalance(text)
  assert.ok(parsed.kind === 'policy', text)
  return parsed.policy
}

const candidate = (cluster: string, more: Partial<Candidate> = {}): Candidate => ({
  cluster: cluster as ClusterName,
  ready: 2,
  leaving: 0,
  isLocal: cluster === 'edge',
  isWithdrawn: false,
  rttMs: undefined,
  ...more
})

/** "east 50%, west 50%": the clusters with a share. */
function sharesOf(shares: readonly ClusterShare[]): string {
  const total = shares.reduce((sum, { endpoints, weight }) => sum + endpoints * weight, 0)
  return shares
    .filter(({ weight }) => weight > 0)
    .map(({ cluster, endpoints, weight }) => `${cluster} ${Math.round((100 * endpoints * weight) / total)}%`)
    .join(', ')
}

describe('the choice of clusters', () => {
  const all = CLUSTERS.map((cluster) => candidate(cluster))
  const without = (cluster: string, more: Partial<Candidate> = { isWithdrawn: true }) =>
    all.map((each) => (each.cluster === cluster ? { ...each, ...more } : each))
  const rows: readonly [policy: string, what: string, of: readonly Candidate[], is: string][] = [
    ['spread', 'four clusters', all, 'east 25%, edge 25%, north 25%, west 25%'],
    [
      'spread',
      'one with more endpoints',
      without('west', { ready: 6 }),
      'east 17%, edge 17%, north 17%, west 50%'
    ],
    ['only=east,west', 'four clusters', all, 'east 50%, west 50%'],
    ['only=east,west', 'one that is down', without('west'), 'east 100%'],
    ['only=east', 'that one is down', without('east'), ''],
    ['weights=east:90,west:10', 'all', all, 'east 90%, west 10%'],
    ['weights=east:90,west:10', 'many endpoints', without('west', { ready: 7 }), 'east 90%, west 10%'],
    ['weights=east:90,west:10', 'the larger is down', without('east'), 'west 100%'],
    [
      'weights=east:1',
      'the only one with a weight has no endpoint',
      without('east', { ready: 0 }),
      'edge 33%, north 33%, west 33%'
    ],
    ['failover=west,east', 'all', all, 'west 100%'],
    ['failover=west,east', 'the first is down', without('west'), 'east 100%'],
    [
      'failover=west',
      'it has none ready',
      without('west', { ready: 0, leaving: 2 }),
      'east 33%, edge 33%, north 33%'
    ],
    ['local-first', 'all', all, 'edge 100%'],
    ['local-first=3', 'two of three', all, 'east 25%, edge 25%, north 25%, west 25%'],
    [
      'spread',
      'one that has few near ones keeps its part',
      without('edge', { ready: 6, near: { ready: 1, where: 'in zone a' } }),
      'east 17%, edge 50%, north 17%, west 17%'
    ],
    [
      'weights=edge:90,west:10',
      'near ones of many',
      without('edge', { ready: 7, near: { ready: 3, where: 'in zone a' } }),
      'edge 90%, west 10%'
    ],
    [
      'local-first=3',
      'the threshold counts all zones',
      without('edge', { ready: 3, near: { ready: 1, where: 'in zone a' } }),
      'edge 100%'
    ],
    ['nearest', 'with an own endpoint', all, 'edge 100%'],
    [
      'nearest',
      'measured',
      [candidate('east', { rttMs: 30 }), candidate('west', { rttMs: 8 }), candidate('north')],
      'west 100%'
    ],
    ['nearest', 'none measured', [candidate('west'), candidate('north')], 'north 100%'],
    [
      'spread',
      'only terminating ones',
      all.map((each) => ({ ...each, ready: 0, leaving: 1 })),
      'east 25%, edge 25%, north 25%, west 25%'
    ]
  ]
  for (const [policy, what, of, is] of rows)
    it(`${policy}, ${what}: ${is || 'none'}`, () =>
      assert.equal(sharesOf(chooseClusters(policyOf(policy), of)), is))

  const cluster = fc.constantFrom(...CLUSTERS)
  const list = fc.uniqueArray(cluster, { minLength: 1 }).map((of) => of.join())
  const preference = fc.oneof(
    fc.constant('spread'),
    fc.constant('nearest'),
    fc.integer({ min: 1, max: 9 }).map((ready) => `local-first=${ready}`),
    list.map((of) => `failover=${of}`),
    fc
      .uniqueArray(fc.tuple(cluster, fc.integer({ min: 0, max: 1000 })), {
        minLength: 1,
        selector: ([name]) => name
      })
      .filter((of) => of.some(([, weight]) => weight > 0))
      .map((of) => `weights=${of.map((each) => each.join(':')).join()}`)
  )
  const policies = fc
    .tuple(preference, fc.option(list, { nil: undefined }))
    .map(([prefers, only]) => (only === undefined ? prefers : `only=${only}; ${prefers}`))
  const count = fc.oneof(fc.integer({ min: 0, max: 5 }), fc.integer({ min: 0, max: 5000 }))
  const candidates = fc.uniqueArray(
    fc.record({
      cluster,
      ready: count,
      leaving: count,
      isWithdrawn: fc.boolean(),
      rttMs: fc.option(fc.double({ min: 0, max: 500, noNaN: true }), { nil: undefined })
    }),
    { selector: (each) => each.cluster }
  )
  const input = fc.tuple(
    policies,
    fc
      .tuple(candidates, fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 4 }))
      .map(([of, parts]) =>
        of.map((each, index): Candidate => {
          const part = parts[index]
          // As zone-choice.ts has it: at least one of those that are ready.
          const near = part !== undefined && {
            near: { ready: Math.ceil(part * each.ready) || each.ready, where: 'in zone a' }
          }
          return { ...each, ...near, isLocal: each.cluster === 'edge' }
        })
      )
  )

  it('never leaves a service empty while an allowed cluster that is reached has an endpoint', () => {
    fc.assert(
      fc.property(input, ([text, of]) => {
        const { only } = policyOf(text)
        const allowed = of.filter(
          (each) => !each.isWithdrawn && (only.length === 0 || only.includes(each.cluster))
        )
        const isReady = allowed.some(({ ready }) => ready > 0)
        const shares = chooseClusters(policyOf(text), of).filter(({ weight }) => weight > 0)
        assert.equal(shares.length > 0, isReady || allowed.some(({ leaving }) => leaving > 0))
        for (const { cluster: name, endpoints, of: of_ } of shares) {
          const each = allowed.find((one) => one.cluster === name)
          assert.ok(each, `${name} is not allowed`)
          assert.equal(of_, isReady ? (each.near?.ready ?? each.ready) : each.leaving)
          assert.ok(endpoints > 0 && endpoints <= of_)
        }
      }),
      { numRuns: 500 }
    )
  })

  it('gives each cluster one share with a reason, the same for every order of the clusters', () => {
    fc.assert(
      fc.property(input, ([text, of]) => {
        const shares = chooseClusters(policyOf(text), of)
        assert.deepEqual(
          shares.map(({ cluster: name }) => name),
          of.map(({ cluster: name }) => name).sort()
        )
        for (const { reason } of shares) assert.notEqual(reason, '')
        assert.deepEqual(chooseClusters(policyOf(text), of.toReversed()), shares)
      })
    )
  })

  it('gives a cluster the same part whatever its zones, where no endpoint is left without a place', () => {
    fc.assert(
      fc.property(input, ([text, of]) => {
        const small = of.map(({ cluster: name, ready, leaving, isLocal, isWithdrawn, rttMs }) => {
          const few = ready % 6
          return { cluster: name, ready: few, leaving, isLocal, isWithdrawn, rttMs }
        })
        const parts = (near: boolean): readonly (readonly [string, number])[] => {
          const shares = chooseClusters(
            policyOf(text),
            small.map((each) =>
              near && each.ready > 1 ? { ...each, near: { ready: 1, where: 'in zone a' } } : each
            )
          )
          const total = shares.reduce((sum, each) => sum + each.endpoints * each.weight, 0)
          return shares.map(({ cluster: name, endpoints, weight }) => [
            name,
            total === 0 ? 0 : (endpoints * weight) / total
          ])
        }
        const plain = parts(false)
        for (const [index, [name, part]] of parts(true).entries())
          assert.ok(Math.abs(part - (plain[index]?.[1] ?? 0)) < 0.1, `${name} of ${text}`)
      })
    )
  })

  it('has whole weights whose sum is bounded, and the shares of `weights` within a tenth of the exact ones', () => {
    fc.assert(
      fc.property(input, ([text, of]) => {
        const shares = chooseClusters(policyOf(text), of).filter(({ weight }) => weight > 0)
        const endpoints = shares.reduce((sum, each) => sum + each.endpoints, 0)
        const total = shares.reduce((sum, each) => sum + each.endpoints * each.weight, 0)
        assert.ok(shares.every(({ weight }) => Number.isInteger(weight)))
        assert.ok(
          total <= Math.min(16_384, Math.max(512, 32 * endpoints)) * 1.5 + endpoints,
          `${total} for ${endpoints}`
        )
        const { preference: of_ } = policyOf(text)
        if (of_.kind !== 'weights') return
        if (shares.length > 1 && shares.some(({ weight }) => weight !== shares[0]?.weight))
          assert.ok(endpoints <= 512, `${endpoints} endpoints have a place`)
        const sum = shares.reduce((all_, { cluster: name }) => all_ + (of_.weights.get(name) ?? 0), 0)
        if (sum === 0) return
        for (const each of shares) {
          const exact = (of_.weights.get(each.cluster) ?? 0) / sum
          const share = (each.endpoints * each.weight) / total
          assert.ok(Math.abs(share - exact) < 0.1, `${each.cluster} has ${share} of ${text}`)
        }
      }),
      { numRuns: 500 }
    )
  })
})
