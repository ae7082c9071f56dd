// The alerts and the dashboard of the chart name only metrics and labels that the agent has, and each alert has a runbook.
// With PROMTOOL=<path of promtool> (Debian: prometheus) that checks the rules and the metrics, too.
import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { parse } from 'yaml'
import { createMetrics } from '../../src/app/observe/metrics.ts'

const FOLDER = 'deploy/chart/rhizome/files/monitoring'
const PROMTOOL = process.env['PROMTOOL']

interface Alert {
  readonly alert: string
  readonly expr: string
  readonly for: string
  readonly labels: { readonly severity: string }
  readonly annotations: Readonly<Record<string, string>>
}

describe('the alerts and the dashboard', () => {
  const { groups } = parse(readFileSync(`${FOLDER}/alerts.yaml`, 'utf8')) as {
    groups: readonly { readonly rules: readonly Alert[] }[]
  }
  const alerts = groups.flatMap(({ rules }) => rules)
  const dashboard = JSON.parse(readFileSync(`${FOLDER}/dashboard.json`, 'utf8')) as {
    readonly panels: readonly {
      readonly title: string
      readonly targets: readonly { readonly expr: string }[]
    }[]
    readonly templating: unknown
  }
  const exprs = [
    ...alerts.map(({ alert, expr }) => [alert, expr] as const),
    ...dashboard.panels.flatMap(({ title, targets }) => targets.map(({ expr }) => [title, expr] as const)),
    ['templating', JSON.stringify(dashboard.templating)] as const
  ]

  it('name only metrics of the table, and labels that these have', async () => {
    const { registry } = createMetrics()
    const labels = new Map(
      (registry.getMetricsAsArray() as readonly { name: string; labelNames?: string[] }[]).map((metric) => [
        metric.name,
        metric.labelNames ?? []
      ])
    )
    const types = new Map((await registry.getMetricsAsJSON()).map(({ name, type }) => [name, String(type)]))
    let checked = 0
    for (const [where, expr] of exprs)
      for (const [, name = '', selector = ''] of expr.matchAll(
        /\b((?:rhizome|process|nodejs)_\w+)(?:\{([^}]*)\})?/g
      )) {
        const base = types.has(name) ? name : name.replace(/_(bucket|sum|count)$/, '')
        assert.ok(types.has(base), `${where}: there is no metric ${name}`)
        assert.equal(
          types.get(base) === 'histogram',
          base !== name,
          `${where}: ${name} is a ${types.get(base)}`
        )
        for (const [, label = ''] of selector.matchAll(/(\w+)\s*(?:=~|!=|!~|=)/g))
          assert.ok(
            [...(labels.get(base) ?? []), 'instance', 'job'].includes(label),
            `${where}: ${name} has no label ${label}`
          )
        checked++
      }
    assert.ok(checked > 25, `${checked} metrics were looked at`)
  })

  it('show each metric of the table in a panel or an alert, but those that the others explain', async () => {
    const all = exprs.map(([, expr]) => expr).join('\n')
    const shown = (await createMetrics().registry.getMetricsAsJSON())
      .map(({ name }) => name)
      .filter((name) => name.startsWith('rhizome_') && !all.includes(name))
    // Numbers behind other panels: frames and datagrams behind bytes, operations behind passes, snapshots behind propagation.
    assert.deepEqual(shown.toSorted(), [
      'rhizome_events_total',
      'rhizome_frames_bytes_total',
      'rhizome_frames_total',
      'rhizome_host_ops_total',
      'rhizome_pass_seconds',
      'rhizome_path_datagrams_total',
      'rhizome_source_problems',
      'rhizome_source_snapshots_total'
    ])
  })

  it('have a runbook for each alert that says what it means, what to look at and how to mend it, and no other', () => {
    const sections = readFileSync('docs/runbooks.md', 'utf8').split(/^## /m).slice(1)
    assert.deepEqual(
      sections.map((section) => section.split('\n')[0]),
      alerts.map(({ alert }) => alert)
    )
    for (const section of sections)
      for (const part of ['Means', 'Look at', 'Mend'])
        assert.match(section, new RegExp(`^\\*\\*${part}:\\*\\* \\S`, 'm'), section)
  })

  it('have a severity, a time, and texts with the names of what is wrong', () => {
    assert.equal(new Set(alerts.map(({ alert }) => alert)).size, alerts.length)
    for (const { alert, labels, annotations, ...rest } of alerts) {
      assert.match(alert, /^Rhizome[A-Z]\w+$/)
      assert.ok(['critical', 'warning', 'info'].includes(labels.severity), alert)
      assert.match(rest.for, /^\d+m$/)
      assert.match(annotations['summary'] ?? '', /\{\{ \$labels\.instance \}\}/, alert)
      assert.match(annotations['description'] ?? '', /\.$/, alert)
    }
  })

  if (PROMTOOL !== undefined)
    it('pass promtool, and so does /metrics of an agent', async () => {
      execFileSync(PROMTOOL, ['check', 'rules', `${FOLDER}/alerts.yaml`], { stdio: 'pipe' })
      const { registry } = createMetrics()
      const lines = (await registry.metrics()).split('\n')
      // Those of Node.js are of prom-client, and have names that promtool warns of.
      const own = lines.filter((line) => /^(# (HELP|TYPE) )?rhizome_/.test(line)).join('\n')
      const { stdout, stderr, status } = spawnSync(PROMTOOL, ['check', 'metrics'], {
        input: `${own}\n`,
        encoding: 'utf8'
      })
      assert.equal(status, 0, stdout + stderr)
    })

  it('are in no manifest unless they are asked for', () => {
    assert.ok(existsSync('deploy/chart/rhizome/templates/monitoring.yaml'))
    for (const variant of ['kubernetes', 'openshift'])
      assert.doesNotMatch(
        readFileSync(`deploy/manifests/${variant}.yaml`, 'utf8'),
        /PrometheusRule|rhizome-dashboard/
      )
  })
})
