import assert from 'node:assert/strict'
import fc from 'fast-check'
import { UNPROVEN_PEERS_MAX, withinSlots } from '../../../src/core/host/handshake-slots.ts'
import type { AgentView } from '../../../src/core/view/view.ts'

const gateway = (name: string, hasAddress = true): AgentView =>
  ({
    origin: name,
    agent: { wireguardAddresses: hasAddress ? ['203.0.113.7:51820'] : [] }
  }) as unknown as AgentView

describe('the gateways of a cluster to which this host sends handshakes', () => {
  const many = fc.array(fc.record({ hasAddress: fc.boolean(), isProven: fc.boolean() }), { maxLength: 300 })

  it('are three that have not answered, at most, and all others', () => {
    fc.assert(
      fc.property(many, fc.nat(1_000), (list, turn) => {
        const gateways = list.map(({ hasAddress }, index) => gateway(`g${index}`, hasAddress))
        const isProven = (each: AgentView) => list[gateways.indexOf(each)]?.isProven === true
        const chosen = withinSlots(gateways, { isProven, turn })
        const costs = (each: AgentView) => each.agent.wireguardAddresses.length > 0 && !isProven(each)
        assert.ok(chosen.filter(costs).length <= UNPROVEN_PEERS_MAX)
        assert.deepEqual(
          chosen.filter((each) => !costs(each)),
          gateways.filter((each) => !costs(each))
        )
        assert.deepEqual(
          chosen,
          gateways.filter((each) => chosen.includes(each)),
          'in their order'
        )
      })
    )
  })

  it('are each of them within as many turns as are needed', () => {
    const gateways = Array.from({ length: 10 }, (_, index) => gateway(`g${index}`))
    const seen = new Set<AgentView>()
    for (let turn = 0; turn < 10; turn++)
      for (const each of withinSlots(gateways, { isProven: () => false, turn })) seen.add(each)
    assert.equal(seen.size, 10)
  })

  it('are all while nothing is known of answers', () => {
    const gateways = Array.from({ length: 10 }, (_, index) => gateway(`g${index}`))
    assert.equal(withinSlots(gateways, undefined), gateways)
  })
})
