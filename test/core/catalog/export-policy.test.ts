import assert from 'node:assert/strict'
import fc from 'fast-check'
import {
  EXPORT_ALL,
  exportFacts,
  exportVerdict,
  type ExportPolicy
} from '../../../src/core/catalog/export-policy.ts'
import { parseSelector } from '../../../src/core/kube/label-selector.ts'

interface Case {
  readonly title: string
  readonly service?: {
    readonly namespace?: string
    readonly name?: string
    readonly annotation?: unknown
    readonly labels?: object
    readonly local?: boolean
  }
  readonly namespaceAsked?: boolean
  readonly policy?: Partial<ExportPolicy>
  readonly selector?: string
  readonly verdict: 'whole' | 'name' | 'none'
}

const cases: readonly Case[] = [
  { title: 'everything by default', verdict: 'whole' },
  { title: 'never the API itself', service: { namespace: 'default', name: 'kubernetes' }, verdict: 'none' },
  {
    title: 'not the API itself for its namespace’s sake',
    service: { namespace: 'default', name: 'kubernetes' },
    namespaceAsked: true,
    verdict: 'none'
  },
  {
    title: 'the API itself when it is asked for',
    service: { namespace: 'default', name: 'kubernetes', annotation: 'true' },
    verdict: 'whole'
  },
  { title: 'a service named kubernetes elsewhere', service: { name: 'kubernetes' }, verdict: 'whole' },
  { title: 'nothing unmarked when the policy keeps it', policy: { unmarked: 'keep' }, verdict: 'none' },
  {
    title: 'what is marked, although the policy keeps the rest',
    service: { annotation: 'true' },
    policy: { unmarked: 'keep' },
    verdict: 'whole'
  },
  { title: 'not what is marked to stay', service: { annotation: 'false' }, verdict: 'none' },
  { title: 'not what is marked with a typing error', service: { annotation: 'True' }, verdict: 'none' },
  { title: 'not what is marked with no text', service: { annotation: true }, verdict: 'none' },
  { title: 'a marked namespace', namespaceAsked: true, policy: { unmarked: 'keep' }, verdict: 'whole' },
  { title: 'not of a namespace marked to stay', namespaceAsked: false, verdict: 'none' },
  {
    title: 'a marked service of a namespace marked to stay',
    service: { annotation: 'true' },
    namespaceAsked: false,
    verdict: 'whole'
  },
  { title: 'a named namespace', policy: { namespaces: ['shop'] }, verdict: 'whole' },
  { title: 'no other namespace', policy: { namespaces: ['team'] }, verdict: 'none' },
  { title: 'no excepted namespace', policy: { exceptNamespaces: ['shop'] }, verdict: 'none' },
  {
    title: 'no excepted namespace, although a Service in it is annotated',
    service: { annotation: 'true' },
    policy: { exceptNamespaces: ['shop'] },
    verdict: 'none'
  },
  {
    title: 'no excepted namespace, although it is annotated itself',
    namespaceAsked: true,
    policy: { exceptNamespaces: ['shop'], unmarked: 'keep' },
    verdict: 'none'
  },
  {
    title: 'no excepted namespace, although the list of namespaces has it, too',
    service: { annotation: 'true' },
    policy: { exceptNamespaces: ['shop'], namespaces: ['shop'] },
    verdict: 'none'
  },
  {
    title: 'no namespace beside the list of namespaces, although a Service in it is annotated',
    service: { annotation: 'true', local: true },
    namespaceAsked: true,
    policy: { namespaces: ['team'] },
    verdict: 'none'
  },
  {
    title: 'not even the API itself of an excepted namespace',
    service: { namespace: 'default', name: 'kubernetes', annotation: 'true' },
    policy: { exceptNamespaces: ['default'] },
    verdict: 'none'
  },
  {
    title: 'a marked service that the selector passes over',
    service: { annotation: 'true' },
    selector: 'team=web',
    verdict: 'whole'
  },
  {
    title: 'selected labels',
    service: { labels: { team: 'web', tier: 'b' } },
    selector: 'team=web, tier in (a, b),!internal',
    verdict: 'whole'
  },
  {
    title: 'not other labels',
    service: { labels: { team: 'web', internal: '' } },
    selector: 'team=web,!internal',
    verdict: 'none'
  },
  { title: 'not labels it lacks', selector: 'team', verdict: 'none' },
  {
    title: 'unequal labels, missing ones among them',
    selector: 'team!=web,tier notin (a,b)',
    verdict: 'whole'
  },
  { title: 'the name alone of what stays on its node', service: { local: true }, verdict: 'name' },
  {
    title: 'all of what stays on its node when asked',
    service: { local: true, annotation: 'true' },
    verdict: 'whole'
  }
]

describe('the export policy', () => {
  for (const { title, service = {}, namespaceAsked, policy, selector = '', verdict } of cases) {
    it(`exports ${title}`, () => {
      const parsed = parseSelector(selector)
      const whole: ExportPolicy = {
        ...EXPORT_ALL,
        ...policy,
        selector: parsed.kind === 'selector' ? parsed.selector : assert.fail(parsed.reason)
      }
      const { namespace = 'shop', name = 'web', annotation, labels = {}, local = false } = service
      const object = {
        metadata: {
          labels,
          ...(annotation === undefined ? {} : { annotations: { 'rhizome.io/export': annotation } })
        },
        spec: { internalTrafficPolicy: local ? 'Local' : 'Cluster' }
      }
      const facts = exportFacts(object, whole)
      assert.equal(exportVerdict({ namespace, name, facts }, namespaceAsked, whole), verdict)
    })
  }

  for (const text of ['a b', 'team=', 'in (a)', '=web', 'tier in a', 'tier in (a b)', 'team=web=x', '!']) {
    const good = text === 'team='
    it(`${good ? 'takes' : 'refuses'} the selector ${JSON.stringify(text)}`, () => {
      assert.equal(parseSelector(text).kind, good ? 'selector' : 'invalid')
    })
  }

  it('exports nothing of a namespace that the administrator leaves out, whatever a tenant writes (property)', () => {
    const text = fc.constantFrom('true', 'false', 'True', '', undefined)
    fc.assert(
      fc.property(
        fc.record({
          annotation: text,
          labels: fc.dictionary(fc.constantFrom('team', 'tier'), fc.constantFrom('a', 'b')),
          name: fc.constantFrom('web', 'kubernetes'),
          namespace: fc.constantFrom('shop', 'default'),
          spec: fc.constantFrom(
            {},
            { type: 'ExternalName', externalName: 'x.y' },
            { internalTrafficPolicy: 'Local' },
            { clusterIP: 'None' }
          )
        }),
        fc.option(fc.boolean(), { nil: undefined }),
        fc.constantFrom<Partial<ExportPolicy>>(
          { exceptNamespaces: ['shop', 'default'] },
          { namespaces: ['shop', 'default'], exceptNamespaces: ['default', 'shop'] },
          { namespaces: ['other'] },
          { unmarked: 'keep', namespaces: ['Shop', 'default.'] }
        ),
        ({ annotation, labels, name, namespace, spec }, namespaceAsked, lists) => {
          const policy = { ...EXPORT_ALL, ...lists }
          const metadata = { name, namespace, labels, annotations: { 'rhizome.io/export': annotation } }
          const facts = exportFacts({ metadata, spec }, policy)
          assert.equal(exportVerdict({ namespace, name, facts }, namespaceAsked, policy), 'none')
        }
      )
    )
  })
})
