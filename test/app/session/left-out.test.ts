import assert from 'node:assert/strict'
import { Health } from '../../../src/app/observe/health.ts'
import { setLeftOut, setNotGranted } from '../../../src/app/session/left-out.ts'

const silent = { info: () => undefined, warn: () => undefined, error: () => undefined }

describe('what cannot be published', () => {
  it('is a fault with its fix for each object and each namespace, until it can be', () => {
    const health = new Health({ log: silent, now: () => 0 })
    const namespace = {
      namespace: 'shop',
      services: 0,
      endpointSlices: 12,
      wantedBytes: 70 * 1024 * 1024,
      publishedBytes: 63 * 1024 * 1024
    }
    setLeftOut(health, {
      refused: [
        { key: 'svc/shop/web', reason: 'affinitySeconds is above 86400 (one day)', reduced: false },
        { key: 'agent', reason: 'multiaddrs has 20 items, above the limit of 16', reduced: true }
      ],
      namespaces: [namespace]
    })
    const texts = health
      .faults()
      .map(({ severity, subject, message }) => `${severity} ${subject}: ${message}`)
    assert.match(
      texts[0] ?? '',
      /^error svc\/shop\/web: Service shop\/web is not published.*above 86400 \(one day\)/
    )
    assert.match(
      texts[1] ?? '',
      /^error shop: namespace shop: 12 of its endpoint slices are not published.*\(136 MiB or 200,000 records\); of the 70\.0 MiB of this namespace, 63\.0 MiB are published/
    )
    assert.match(texts[2] ?? '', /^warning agent: the agent record is published without the fields/)
    setLeftOut(health, {
      refused: [{ key: 'agent', reason: 'tunnelKeys has a malformed proof', reduced: false }],
      namespaces: []
    })
    assert.deepEqual(
      health.faults().map(({ severity, subject }) => `${severity} ${subject}`),
      ['critical agent']
    )
    setLeftOut(health, { refused: [], namespaces: [] })
    assert.deepEqual(health.faults(), [])
  })

  it('names at most five namespaces that the invite does not, and the number of the others', () => {
    const health = new Health({ log: silent, now: () => 0 })
    setNotGranted(health, ['g', 'b', 'c', 'd', 'e', 'f', 'a'])
    assert.match(
      health.faults()[0]?.message ?? '',
      /^services of the namespaces a, b, c, d, e, 2 more are not exported/
    )
    setNotGranted(health, [])
    assert.deepEqual(health.faults(), [])
  })
})
