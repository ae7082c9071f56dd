// The conditions of a ServiceExport for each thing that can be said of it.
import assert from 'node:assert/strict'
import fc from 'fast-check'
import { byKey, conditionsOf, nextConditions } from '../../../src/core/mcs/export-conditions.ts'
import type { IdleExport } from '../../../src/core/catalog/live-catalog.ts'
import type { Fields } from '../../../src/core/model/field-check.ts'
import type { Origin } from '../../../src/core/model/values.ts'
import { EXPORTS_PER_NAMESPACE_MAX } from '../../../src/core/view/clusterset.ts'
import type { MeshView } from '../../../src/core/view/view.ts'
import { cluster, EXPORT, meshOf, port, service } from '../dns/fixtures.ts'

function exported(key: string, number = 80, exportedAt = 1000) {
  const made = service(key, ['10.2.0.1'], { ports: [port('http', number)] })
  return { ...made, service: { ...made.service, clusterset: { ...EXPORT, exportedAt } } }
}

const EMPTY = meshOf(cluster('east', {}))

/** "Valid=True/Valid Ready=…", and the messages. */
function said(view: MeshView, idle?: IdleExport): { readonly text: string; readonly messages: string } {
  const found = conditionsOf({ namespace: 'shop', name: 'web', ...(idle && { idle }) }, view, byKey(view))
  return {
    text: found.map(({ type, status, reason }) => `${type}=${status}/${reason}`).join(' '),
    messages: found.map(({ message }) => message).join('\n')
  }
}

describe('the conditions of an export', () => {
  it('are those of the standard for what is wrong, each with the fix', () => {
    const none = said(EMPTY, { reason: 'noService' })
    assert.equal(none.text, 'Valid=False/NoService Ready=False/Failed')
    assert.match(none.messages, /there is no Service shop\/web: make it, or delete this ServiceExport/)
    const alias = said(EMPTY, { reason: 'alias' })
    assert.equal(alias.text, 'Valid=False/InvalidServiceType Ready=False/Failed')
    assert.match(alias.messages, /use a cluster IP or a headless Service/)
    const kept = said(EMPTY, { reason: 'kept' })
    assert.equal(kept.text, 'Valid=True/Valid Ready=False/Failed')
    assert.match(kept.messages, /rhizome\.io\/export is not "true"/)
    assert.match(
      said(EMPTY, { reason: 'refused', message: 'spec.ports is empty' }).messages,
      /spec\.ports is empty/
    )
    assert.equal(said(EMPTY).text, 'Valid=True/Valid Ready=False/Pending')
  })

  it('say that other clusters refuse the record, and that a limit does', () => {
    const refused = {
      ...cluster('east', {}),
      refusals: [{ origin: 'o' as Origin, key: 'svc/shop/web', reason: 'it lies outside' }]
    }
    assert.match(said(meshOf(refused)).messages, /other clusters refuse Service shop\/web: it lies outside/)
    const first = Array.from({ length: EXPORTS_PER_NAMESPACE_MAX }, (_, at) => exported(`shop/a${at}`))
    const full = said(meshOf(cluster('east', { services: [...first, exported('shop/web')] })))
    assert.equal(full.text, 'Valid=True/Valid Ready=False/Failed')
    assert.match(full.messages, /at most 1024 of a namespace/)
  })

  it('have a conflict in every exporting cluster, with the oldest one and the field', () => {
    const agreed = meshOf(
      cluster('east', { services: [exported('shop/web')] }),
      cluster('west', { services: [exported('shop/web')] })
    )
    assert.equal(said(agreed).text, 'Valid=True/Valid Ready=True/Exported Conflict=False/NoConflicts')
    const differing = meshOf(
      cluster('east', { services: [exported('shop/web', 80, 2000)] }),
      cluster('west', { services: [exported('shop/web', 8080, 1000)] })
    )
    for (const self of ['east', 'west']) {
      const { text, messages } = said({ ...differing, self: self as MeshView['self'] })
      assert.equal(text, 'Valid=True/Valid Ready=True/Exported Conflict=True/PortConflict')
      assert.match(
        messages,
        /differ in ports \(cluster east\) from that of cluster west, which is the oldest/
      )
    }
    assert.equal(
      said({ ...agreed, self: 'north' as MeshView['self'] }).text,
      'Valid=True/Valid Ready=False/Pending',
      'exports of others do not make this one ready'
    )
  })

  it('are written once, keep those of others, and keep their time while the status is the same', () => {
    const types = fc.constantFrom('Valid', 'Ready', 'Conflict', 'example.com/Other')
    const held = fc.uniqueArray(
      fc.record({
        type: types,
        status: fc.constantFrom('True', 'False', 'Unknown'),
        reason: fc.constantFrom('Valid', 'Pending'),
        message: fc.constantFrom('', 'x'),
        lastTransitionTime: fc.constant('2026-01-01T00:00:00Z'),
        observedGeneration: fc.constantFrom(1, 2)
      }),
      { selector: ({ type }) => type, maxLength: 4 }
    )
    fc.assert(
      fc.property(held, fc.constantFrom(1, 2), (conditions, generation) => {
        const want = conditionsOf({ namespace: 'shop', name: 'web' }, EMPTY, byKey(EMPTY))
        const next = nextConditions({ conditions, generation }, want, 'NOW')
        assert.ok(next !== undefined)
        assert.equal(nextConditions({ conditions: next, generation }, want, 'LATER'), undefined)
        const of = (list: readonly Fields[], type: string) => list.find((each) => each['type'] === type)
        assert.deepEqual(of(next, 'example.com/Other'), of(conditions, 'example.com/Other'))
        const before = of(conditions, 'Valid')
        const isSame = before?.['status'] === 'True'
        assert.equal(of(next, 'Valid')?.['lastTransitionTime'], isSame ? '2026-01-01T00:00:00Z' : 'NOW')
        assert.equal(of(next, 'Conflict'), undefined)
      })
    )
  })
})
