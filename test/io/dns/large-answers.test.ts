// More than a DNS message can hold: TC, and another part each time, so that every endpoint is seen by some client.
import assert from 'node:assert/strict'

import { decode } from '@dnsquery/dns-packet'

import { createNames } from '../../../src/core/dns/names.ts'
import { frame } from '../../../src/io/dns/framing.ts'
import { cluster, endpoint, meshOf, port as portOf, service, slice } from '../../core/dns/fixtures.ts'
import { askTcp, query, startServer, type Running } from './harness.ts'

const COUNT = 6000

describe('DNS answers above 64 KiB', () => {
  let running: Running
  before(async () => {
    const ports = [portOf('http', 80)]
    const pods = Array.from({ length: COUNT }, (_, index) => {
      const [high, low] = [index >> 8, index & 255]
      return endpoint(`10.1.${high}.${low}`)
    })
    const sixes = Array.from({ length: COUNT }, (_, index) => endpoint(`fd00:1::${(index + 1).toString(16)}`))
    const view = meshOf(
      cluster('east', {
        services: [
          service('shop/four', [], { headless: true, ports }, slice(pods, ports)),
          service('shop/six', [], { headless: true, ports }, slice(sixes, ports)),
          service('shop/alias', [], { externalName: 'four.shop.svc.cluster.east' })
        ]
      })
    )
    const names = createNames({ view })
    running = await startServer({ names: () => names })
  })
  after(() => running.server.stop())

  for (const [name, type, enough] of [
    ['four.shop.svc.cluster.east', 'A', 4000],
    ['six.shop.svc.cluster.east', 'AAAA', 2300],
    ['four.shop.svc.cluster.east', 'SRV', 1000],
    ['alias.shop.svc.cluster.east', 'A', 4000]
  ] as const) {
    it(`${name} ${type} over TCP has TC and another part each time`, async () => {
      const seen = new Set<string>()
      const firsts = new Set<string>()
      for (let round = 0; round < 8; round++) {
        const [reply] = await askTcp(running.port, [frame(query(name, type, { udpBytes: 1232 }))], 1)
        assert.ok(reply !== undefined && reply.length <= 65_535)
        const { flag_tc, answers = [] } = decode(reply)
        assert.equal(flag_tc, true)
        const found = answers.filter((each) => each.type === type).map(({ data }) => JSON.stringify(data))
        assert.equal(new Set(found).size, found.length)
        assert.ok(found.length >= enough, `${found.length} answers`)
        if (name.startsWith('alias')) assert.equal(answers[0]?.type, 'CNAME')
        for (const each of found) seen.add(each)
        firsts.add(found[0] ?? '')
      }
      assert.ok(firsts.size > 1, 'the same part each time')
      assert.ok(seen.size > enough * 1.05, `${seen.size} of ${COUNT} seen`)
    })
  }
})
