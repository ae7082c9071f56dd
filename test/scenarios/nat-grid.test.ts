// Two sites behind NAT, and an open member that both reach: the pairs of kinds that differ in what has to work. The table is in
// docs/paths.md, and its other pairs are in nat-grid-more.test.ts.
import assert from 'node:assert/strict'
import { eventually } from '../eventually.ts'
import { fault } from './harness.ts'
import { natWorld } from './nat-cells.ts'

describe('two sites behind NAT, and an open member', function () {
  const { west, edge, behind, expect, test } = natWorld('nat')

  it('independent × independent, with a token alone: direct, without a relay', async () => {
    await expect('direct', 'after the join')
  })

  it('independent × symmetric: without a relay it is said what helps, and a relay helps', async () => {
    await behind('independent', 'symmetric')
    await eventually(async () => {
      const said = await fault(west(), 'CLUSTER_DOWN')
      assert.equal(said?.subject, 'east')
      assert.match(said.message, /answers this host neither by UDP nor by TCP/)
      assert.match(said.fix, /relay-rate/)
      return true
    }, 90_000)
    await edge().stop('SIGTERM')
    await edge().start('--relay-rate', '10')
    await expect('relay:edge', 'with a relay')
  })

  test([
    ['independent', 'independent', 'direct'],
    ['noUdp', 'double', 'relay:edge']
  ])
})
