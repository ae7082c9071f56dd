// Plain manifests of the chart, for `kubectl apply` and for `meshctl install`: rendered by Helm's own command line (build/helm).
// `node build/manifests.ts` writes deploy/manifests, with --check it says whether they are current.
import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { Document, parseAllDocuments } from 'yaml'

const ROOT = fileURLToPath(new URL('..', import.meta.url))
const CHART = `${ROOT}deploy/chart/rhizome`
const FOLDER = `${ROOT}deploy/manifests`
// What `meshctl install` writes over where another namespace is asked for.
const NAMESPACE = 'rhizome-system'

const VARIANTS = {
  kubernetes: [],
  'kubernetes-webhook': ['--set=webhook.enabled=true'],
  openshift: [`--values=${CHART}/values-openshift.yaml`],
  'openshift-webhook': [`--values=${CHART}/values-openshift.yaml`, '--set=webhook.enabled=true']
} as const

// Without an API server, Helm knows no kinds. Kubernetes has these since 1.30; `meshctl install` leaves them out where they are missing.
const POLICIES = '--api-versions=admissionregistration.k8s.io/v1/ValidatingAdmissionPolicy'

/** What Helm makes of the chart, as text. Without hooks: those belong to a release of Helm. */
export function helmTemplate(helm: string, args: readonly string[], namespace = NAMESPACE): string {
  return execFileSync(
    helm,
    ['template', 'rhizome', CHART, `--namespace=${namespace}`, '--no-hooks', POLICIES, ...args],
    { encoding: 'utf8' }
  )
}

/** Path of the program; built first where it is missing, which takes minutes. */
export function helmPath(): string {
  const output = execFileSync(`${ROOT}build/helm`, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] })
  const path = /^helm=(.+)$/m.exec(output)?.[1]
  if (path === undefined) throw new Error(`build/helm names no helm: ${output}`)
  return path
}

/** File name to text. */
export function manifests(helm: string): ReadonlyMap<string, string> {
  return new Map(
    Object.entries(VARIANTS).map(([name, args]) => [
      `${name}.yaml`,
      `${HEADER}${documents(helmTemplate(helm, ['--set=namespace.create=true', ...args])).join('---\n')}`
    ])
  )
}

/** Each document anew: without Helm's labels, which would claim a release that does not exist. */
function documents(text: string): string[] {
  return parseAllDocuments(text, { version: '1.1' }).flatMap((document) => {
    if (document instanceof Document && document.contents === null) return []
    const object = document.toJS() as { metadata: { labels: Record<string, string> } }
    delete object.metadata.labels['helm.sh/chart']
    delete object.metadata.labels['app.kubernetes.io/managed-by']
    // kubectl reads YAML 1.1, where a bare "off" is false.
    return [new Document(object, { schema: 'yaml-1.1' }).toString({ lineWidth: 0 })]
  })
}

const HEADER = '# Made from deploy/chart/rhizome by build/manifests.ts: change the chart.\n'

function main(check: boolean): void {
  mkdirSync(FOLDER, { recursive: true })
  for (const [name, text] of manifests(helmPath())) {
    const path = `${FOLDER}/${name}`
    if (!check) writeFileSync(path, text)
    else if (readFileSync(path, 'utf8') !== text) {
      process.stderr.write(
        `deploy/manifests/${name} is not what the chart says: run node build/manifests.ts\n`
      )
      process.exitCode = 1
    }
  }
}

if (import.meta.main) main(process.argv.includes('--check'))
