import assert from 'node:assert/strict'
import fc from 'fast-check'
import { parseAsked } from '../../../src/core/why/question.ts'

describe('what meshctl why is asked', () => {
  for (const [text, wanted] of [
    ['web.shop.svc.cluster.east', { kind: 'name', name: 'web.shop.svc.cluster.east' }],
    ['Web.Shop.svc.cluster.EAST.', { kind: 'name', name: 'web.shop.svc.cluster.east' }],
    ['web.shop.svc.cluster.all:80', { kind: 'name', name: 'web.shop.svc.cluster.all', port: 80 }],
    [
      'dns.shop.svc.cluster.all:53/UDP',
      { kind: 'name', name: 'dns.shop.svc.cluster.all', port: 53, protocol: 'UDP' }
    ],
    ['10.102.0.10', { kind: 'address', ip: '10.102.0.10' }],
    ['10.102.0.10:8080', { kind: 'address', ip: '10.102.0.10', port: 8080 }],
    ['fd00::1', { kind: 'address', ip: 'fd00::1' }],
    ['[fd00::1]', { kind: 'address', ip: 'fd00::1' }],
    ['[fd00:0::1]:443/tcp', { kind: 'address', ip: 'fd00::1', port: 443, protocol: 'TCP' }],
    [
      'http://web.shop.svc.cluster.east/health?x=1',
      { kind: 'name', name: 'web.shop.svc.cluster.east', port: 80 }
    ],
    [
      'https://user@web.shop.svc.cluster.east:8443/',
      { kind: 'name', name: 'web.shop.svc.cluster.east', port: 8443 }
    ],
    ['postgres://db.shop.svc.cluster.east', { kind: 'name', name: 'db.shop.svc.cluster.east' }]
  ] as const)
    it(`is understood: ${text}`, () => assert.deepEqual(parseAsked(text), wanted))

  for (const text of [
    '',
    ':80',
    'web..shop',
    '10.1.2',
    '300.1.1.1',
    'web:0',
    'web:65536',
    'web:80/icmp',
    '[fd00::1',
    'a b'
  ])
    it(`is refused: ${JSON.stringify(text)}`, () => assert.equal(parseAsked(text).kind, 'invalid'))

  it('has a port of TCP, UDP or SCTP, whatever the text', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string({ maxLength: 300 }), fc.webUrl(), fc.ipV6(), fc.domain()), (text) => {
        const asked = parseAsked(text)
        if (asked.kind !== 'invalid') assert.ok((asked.port ?? 1) >= 1 && (asked.port ?? 1) <= 65_535)
      })
    )
  })
})
