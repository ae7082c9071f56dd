import assert from 'node:assert/strict'
import { checkClock } from '../../../src/app/doctor/clock.ts'

/** What is found where the clocks of agents of other clusters are this many seconds ahead. */
const found = async (skews: Readonly<Record<string, readonly number[]>>) => {
  const agents = Object.entries(skews).map(([name, list]) => ({
    name,
    agents: list.map((_, index) => ({ origin: `${name} ${index}` }))
  }))
  const own = { name: 'west', agents: [{ origin: 'own' }] }
  const all = Object.entries(skews).flatMap(([name, list]) =>
    list.map((seconds, index): [string, number] => [`${name} ${index}`, seconds])
  )
  const control = {
    neighbour: (origin: string) => {
      const skewSeconds = new Map([...all, ['own', 9999]]).get(origin)
      return skewSeconds === undefined ? undefined : { skewSeconds }
    },
    view: () => ({
      self: 'west',
      clusters: new Map([own, ...agents].map((cluster) => [cluster.name, cluster]))
    })
  }
  const findings = await checkClock({ control } as unknown as Parameters<typeof checkClock>[0])
  return findings.map(({ state, subject, text }) => `${state} ${subject}: ${text}`)
}

describe('the check of the clock', () => {
  it('is well within 60 s, and says nothing without a neighbour of another cluster', async () => {
    assert.deepEqual(await found({}), [])
    assert.deepEqual(await found({ east: [3], edge: [-60] }), [
      'ok : the clock of this host and those of 2 neighbour clusters agree within 60 s'
    ])
  })

  it('blames this host where most clusters agree, whatever a single one says', async () => {
    assert.deepEqual(await found({ east: [7200], edge: [7201], north: [0] }), [
      'warning : the clock of this host is 2 hours behind those of most of 3 neighbour clusters'
    ])
    assert.deepEqual(await found({ east: [-86_400 * 365], edge: [-86_400 * 364] }), [
      'warning : the clock of this host is 365 days ahead of those of most of 2 neighbour clusters'
    ])
  })

  it('names the cluster that differs, and blames neither of two', async () => {
    assert.deepEqual(await found({ east: [-3600] }), [
      'warning east: the clock of cluster east is 60 minutes behind that of this host, so one of the two is wrong'
    ])
    assert.deepEqual(await found({ east: [1e9], edge: [0], north: [1, 0, 1e9] }), [
      'warning east: the clock of cluster east is 11574 days ahead of that of this host, so one of the two is wrong'
    ])
  })

  it('gives a cluster of many agents one voice', async () => {
    assert.deepEqual(await found({ east: [7200, 7200, 7200], edge: [0], north: [0] }), [
      'warning east: the clock of cluster east is 2 hours ahead of that of this host, so one of the two is wrong'
    ])
  })
})
