import assert from 'node:assert/strict'
import { NOTHING_OBSERVED, withObserved, withTelling } from '../../../src/core/host/observed-addresses.ts'
import type { Cidr, ClusterName, Ip, PeerAddress } from '../../../src/core/model/values.ts'

const SIDE = { own: ['192.168.1.2', '203.0.113.7'] as Ip[], prefixes: ['10.1.0.0/16' as Cidr] }
const OUTER = '198.51.100.1:51820'

/** "edge 198.51.100.1:51820 @5": what was told, by whom, and in which second. */
const after = (...told: readonly string[]) =>
  told.reduce((state, text) => {
    const [cluster, address, second = '@0'] = text.split(' ')
    return withTelling(
      state,
      {
        cluster: cluster as ClusterName,
        address: address as PeerAddress,
        nowMs: Number(second.slice(1)) * 1000
      },
      SIDE
    )
  }, NOTHING_OBSERVED)

describe('the addresses at which members see a tunnel', () => {
  const rows: readonly (readonly [what: string, told: readonly string[], counts: readonly string[]])[] = [
    ['one member alone is believed', [`edge ${OUTER}`], [OUTER]],
    [
      'each family by itself',
      [`edge ${OUTER}`, 'edge [2001:db8::7]:51820 @31'],
      [OUTER, '[2001:db8::7]:51820']
    ],
    ['an address of this host is no news', ['edge 203.0.113.7:51820'], []],
    ['one that no other host reaches', ['edge 127.0.0.1:51820', 'edge 169.254.1.1:51820'], []],
    ['one inside the own prefixes', ['edge 10.1.0.9:51820'], []],
    ['another port for each member (symmetric)', [`edge ${OUTER}`, 'north 198.51.100.1:7 @31'], []],
    ['a member that lies, against two', [`a ${OUTER}`, `b ${OUTER} @1`, 'c 198.51.100.9:1 @40'], [OUTER]],
    [
      'a member that lies, before the two',
      ['c 198.51.100.9:1', `a ${OUTER} @31`, `b ${OUTER} @59`, `b ${OUTER} @62`],
      [OUTER]
    ],
    ['a cluster has one voice, its latest', [`a ${OUTER}`, 'a 198.51.100.1:7 @31'], ['198.51.100.1:7']],
    ['a second word corrects the first', [`a ${OUTER}`, 'a 198.51.100.1:7 @1'], ['198.51.100.1:7']],
    [
      'after three changes the next one waits',
      [`a ${OUTER}`, 'a 198.51.100.1:7 @1', `a ${OUTER} @2`, 'a 198.51.100.1:9 @89'],
      [OUTER]
    ],
    [
      'and comes 90 s after the first',
      [`a ${OUTER}`, 'a 198.51.100.1:7 @1', `a ${OUTER} @2`, 'a 198.51.100.1:9 @90'],
      ['198.51.100.1:9']
    ],
    ['a member that is silent for 60 s has no voice', ['c 198.51.100.9:1', `a ${OUTER} @61`], [OUTER]]
  ]
  for (const [what, told, counts] of rows) it(what, () => assert.deepEqual(after(...told).addresses, counts))

  it('come before the private addresses of their family, and after the others', () => {
    const published = (own: readonly string[], ...observed: readonly string[]) =>
      withObserved(own as PeerAddress[], observed as PeerAddress[])
    assert.deepEqual(published(['[2001:db8::1]:5', '192.168.1.2:5', '10.9.0.1:5'], OUTER), [
      '[2001:db8::1]:5',
      OUTER,
      '192.168.1.2:5',
      '10.9.0.1:5'
    ])
    assert.deepEqual(published(['203.0.113.7:5'], OUTER), ['203.0.113.7:5', OUTER])
    assert.deepEqual(published(['[fd00::1]:5'], OUTER), ['[fd00::1]:5', OUTER])
    assert.deepEqual(published([OUTER, '192.168.1.2:5'], OUTER), [OUTER, '192.168.1.2:5'])
  })
})
