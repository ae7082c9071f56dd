import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import { toValue, type Item } from '../../../src/core/catalog/catalog.ts'
import { EXPORT_ALL, exportFacts } from '../../../src/core/catalog/export-policy.ts'
import { LiveCatalog } from '../../../src/core/catalog/live-catalog.ts'
import { joinLimits, readExportTo } from '../../../src/core/catalog/read-export-to.ts'
import { parseClusterName } from '../../../src/core/model/identity.ts'
import { EXPORT_TO_MAX, type ClusterName } from '../../../src/core/model/values.ts'

const annotated = (text: unknown) => ({ metadata: { annotations: { 'rhizome.io/export-to': text } } })

describe('the annotation rhizome.io/export-to', () => {
  it('is a list of clusters, separated by commas or spaces; without it all see the service', () => {
    assert.deepEqual(readExportTo({}), { limit: {} })
    assert.deepEqual(readExportTo(annotated('west, east\teast')), { limit: { exportTo: ['east', 'west'] } })
  })

  it('names no cluster when it is not understood, and says why', () => {
    const long = Array.from({ length: EXPORT_TO_MAX + 1 }, (_, n) => `c${n}`).join()
    for (const [text, message] of [
      ['', /names no cluster/],
      [' , ', /names no cluster/],
      ['east,West', /"West", which is no name/],
      ['all', /"all", which is no name/],
      [7, /is not text/],
      [long, /more than 128/],
      [' '.repeat(100_000), /more than 128/]
    ] as const) {
      const { limit, fault } = readExportTo(annotated(text))
      assert.deepEqual(limit, { exportTo: [] }, String(text).slice(0, 20))
      assert.match(fault?.message ?? '', message)
    }
  })

  it('never throws, and gives names in order or none at all', () => {
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.anything()), (text) => {
        const { limit, fault } = readExportTo(annotated(text))
        const names = limit.exportTo ?? []
        assert.deepEqual(names, [...new Set(names)].sort())
        assert.ok(names.every((name) => parseClusterName(name).kind === 'clusterName'))
        assert.equal(fault !== undefined, limit.exportTo?.length === 0)
      })
    )
  })

  it('of two objects limits more than each of them, and never less', () => {
    const list = fc.option(fc.subarray(['a', 'b', 'c'] as ClusterName[]), { nil: undefined })
    fc.assert(
      fc.property(list, list, (one, other) => {
        const joined = joinLimits(one ? { exportTo: one } : {}, other ? { exportTo: other } : {})
        const allowed = (name: string) =>
          [one, other].every((each) => each?.includes(name as ClusterName) ?? true)
        for (const name of ['a', 'b', 'c'] as ClusterName[])
          assert.equal(joined === 'all' || (joined !== 'none' && joined.includes(name)), allowed(name))
      })
    )
  })
})

describe('a service for named clusters', () => {
  const item = (object: unknown): Item => ({ file: 'kubernetes', reading: toValue(object) })
  const of = { namespace: 'shop', name: 'web' }

  function published(service: string | undefined, exported: string | undefined) {
    const live = new LiveCatalog()
    const metadata = (text: string | undefined) => ({
      ...of,
      ...(text === undefined ? {} : annotated(text).metadata)
    })
    const object = {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: metadata(service),
      spec: { clusterIP: '10.96.0.1', ports: [{ port: 80 }] }
    }
    live.setService(of, { item: item(object), facts: exportFacts(object, EXPORT_ALL) })
    const kind = { apiVersion: 'multicluster.x-k8s.io/v1beta1', kind: 'ServiceExport' }
    live.setExport(of, item({ ...kind, metadata: metadata(exported) }))
    const { snapshot, problems } = live.settle()
    return {
      exportTo: snapshot.services.map(({ exportTo }) => exportTo?.join() ?? 'all'),
      problems: problems.map(({ message }) => message),
      idle: live.exports().map(({ idle }) => idle?.reason)
    }
  }

  it('is published with the clusters that both its Service and its ServiceExport name', () => {
    assert.deepEqual(published(undefined, undefined).exportTo, ['all'])
    assert.deepEqual(published('east', undefined).exportTo, ['east'])
    assert.deepEqual(published(undefined, 'edge, east').exportTo, ['east,edge'])
    assert.deepEqual(published('east', 'edge, east').exportTo, ['east'])
  })

  it('is not published at all while no cluster is named by both, or a name is mistyped', () => {
    for (const [service, exported] of [
      ['east', 'edge'],
      [undefined, 'East'],
      ['East', undefined],
      [undefined, '']
    ]) {
      const { exportTo, problems, idle } = published(service, exported)
      assert.deepEqual(exportTo, [], `${service} ${exported}`)
      assert.match(problems.join(), /export-to/)
      assert.deepEqual(idle, ['refused'])
    }
  })
})
