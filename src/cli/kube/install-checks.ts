// Checks before `meshctl install` applies anything: they refuse what the agents would refuse at their start.
import { SETTINGS, resolveSettings } from '../../app/settings/settings.ts'
import { isFields, type Fields } from '../../core/model/field-check.ts'
import { GATEWAY_LABEL, type Mode } from '../../core/kube/install.ts'
import { fieldsAt, getObject, textAt, type KubeApi, type KubeObject } from '../../core/kube/kube-api.ts'
import { nearest } from '../../core/model/nearest.ts'
import { decodeToken } from '../../core/trust/token.ts'
import { createCrypto } from '../../io/crypto/crypto.ts'
import { badArgument, CliError } from '../output/errors.ts'

/** Errors: CliError TOKEN_… for an invalid token. An expired token is accepted, because a repeated installation is the upgrade of agents that have joined. */
export function checkToken(token: string): void {
  const read = decodeToken(token, {
    crypto: createCrypto(),
    nowSeconds: Math.floor(Date.now() / 1000),
    meshId: undefined
  })
  if (read.kind === 'token' || read.code === 'expired' || read.code === 'notYetValid') return
  throw new CliError(
    `TOKEN_${read.code.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`,
    `token: ${read.message}`,
    read.fix
  )
}

/** Errors: CliError BAD_ARGUMENT that names the setting and the fix, as meshd itself would. */
export function checkSettings(settings: Readonly<Record<string, string>>): void {
  for (const key of Object.keys(settings)) {
    if (Object.hasOwn(SETTINGS, key)) continue
    const meant = nearest(key, Object.keys(SETTINGS))
    throw badArgument(
      '--set',
      `meshd has no setting "${key}"`,
      `${meant === undefined ? '' : `did you mean ${meant}? `}\`meshd --help\` lists all settings`
    )
  }
  try {
    resolveSettings({ flags: settings, env: {}, file: undefined })
  } catch (error) {
    const { message, fix } = error as Error & { fix?: string }
    throw badArgument('--set', message, fix ?? '`meshd --help` says what each setting takes')
  }
}

/** Errors: CliError CONFLICT: two installations would fight over the hosts, and over the objects that have no namespace. */
export function refuseSecond(ours: readonly KubeObject[], namespace: string): void {
  const other = ours.find(
    ({ kind, metadata }) =>
      kind === 'DaemonSet' && metadata.name === 'rhizome' && metadata.namespace !== namespace
  )
  if (other === undefined) return
  const found = other.metadata.namespace ?? ''
  throw new CliError(
    'CONFLICT',
    `rhizome is installed in the namespace ${found}; nothing was changed`,
    `to upgrade it use -n ${found}; to move it run \`meshctl uninstall -n ${found}\` first, which asks before it removes the key of this cluster`
  )
}

export interface ChosenMode {
  readonly mode: Mode
  /** A sentence for the user about what does not work in this mode. */
  readonly note: string | undefined
}

/** undefined: there is no installation. */
export function modeOfInstalled(daemonSet: Fields | undefined): Mode | undefined {
  if (daemonSet === undefined) return undefined
  const selector = fieldsAt(daemonSet, 'spec', 'template', 'spec', 'nodeSelector')
  return Object.hasOwn(selector, GATEWAY_LABEL) ? 'gateway' : 'mesh'
}

/** `mesh` where every Node has a pod prefix of its own: then the pods of every node are served. Errors: of the API. */
export async function chooseMode(api: KubeApi): Promise<ChosenMode> {
  const nodes = await listNodes(api)
  const without = nodes.filter((node) => textAt(node, 'spec', 'podCIDR') === undefined)
  if (nodes.length === 0 || without.length === 0) return { mode: 'mesh', note: undefined }
  if (nodes.length === 1) return { mode: 'gateway', note: undefined }
  const name = textAt(without[0], 'metadata', 'name') ?? ''
  return {
    mode: 'gateway',
    note:
      `${without.length} of ${nodes.length} Nodes, such as ${name}, have no spec.podCIDR, so the mode is gateway: only pods on nodes ` +
      'with the gateway label reach other clusters and are reached by them'
  }
}

async function listNodes(api: KubeApi): Promise<readonly Fields[]> {
  const list = await getObject(api, '/api/v1/nodes')
  return Array.isArray(list?.['items']) ? list['items'].filter(isFields) : []
}
