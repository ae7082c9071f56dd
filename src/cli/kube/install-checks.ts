// Checks before `meshctl install` applies anything. They refuse what the agents would refuse at their start, because an
// error at the terminal is seen at once and one in the log of a pod is not. The rules are those of the agent: the same
// table of settings and the same decoder of tokens. This file is imported when it is needed, since it loads zod and the
// settings.
import { SETTINGS, resolveSettings } from '../../app/settings/settings.ts'
import { codeOfKind } from '../../core/model/coded-error.ts'
import { AGENT_SETS, GATEWAY_LABEL, modeOfSets, type Mode } from '../../core/kube/install-nodes.ts'
import { getObject, listObjects, textAt, type KubeApi } from '../../core/kube/kube-api.ts'
import { nearest } from '../../core/model/nearest.ts'
import { decodeInviteToken } from '../../core/trust/invite-token.ts'
import { createCrypto } from '../../io/crypto/crypto.ts'
import { badArgument, CliError } from '../output/errors.ts'
import { agentsPath } from './kube-objects.ts'

/**
 * Checks the form and the signatures of a token. An expired token is accepted, because a repeated installation is the
 * upgrade of agents that have joined. So is a token that is not valid yet, by this host's clock: the agents judge by
 * their own. Errors: CliError TOKEN_… for an invalid token, such as TOKEN_DAMAGED, with the fix of the decoder.
 */
export function checkToken(token: string): void {
  const read = decodeInviteToken(token, {
    crypto: createCrypto(),
    nowSeconds: Math.floor(Date.now() / 1000),
    meshId: undefined
  })
  if (read.kind === 'token') return
  throw new CliError(codeOfKind('TOKEN', read.code), `token: ${read.message}`, read.fix)
}

/**
 * Checks the settings of --set, by key, as meshd would at its start. Errors: CliError BAD_ARGUMENT that names the
 * setting and the fix, with the nearest known key for an unknown one.
 */
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

/** The mode of an installation, with the reason where it was chosen. */
export interface ChosenMode {
  readonly mode: Mode
  /** A sentence for the user: why this mode, and which pods it does not serve. */
  readonly note: string | undefined
}

/**
 * Returns the mode of what is installed in the namespace; undefined when nothing is. An upgrade without --mode keeps this
 * mode. Errors: those of the API.
 */
export async function installedMode(api: KubeApi, namespace: string): Promise<Mode | undefined> {
  const [gateways, nodes] = await Promise.all(
    AGENT_SETS.map((name) => getObject(api, agentsPath(namespace, name)))
  )
  return gateways === undefined ? undefined : modeOfSets(gateways, nodes !== undefined)
}

/**
 * Chooses the mode of a first installation. `mesh` and `nodes` need a pod prefix in every Node (spec.podCIDR), since each
 * agent serves the prefix of its own node. A network plugin with pools of its own leaves the field empty; then it is
 * `gateway`. Where gateways are named, by `gateways` or by their label, they are the only ones. Nodes of another system than
 * Linux run no agent and do not count. Errors: those of the API.
 */
export async function chooseMode(api: KubeApi, gateways: readonly string[]): Promise<ChosenMode> {
  const all =
    (await listObjects(api, { path: '/api/v1/nodes' }, (node) => ({
      name: textAt(node, 'metadata', 'name') ?? '',
      isLinux: (textAt(node, 'metadata', 'labels', 'kubernetes.io/os') ?? 'linux') === 'linux',
      isGateway: textAt(node, 'metadata', 'labels', GATEWAY_LABEL) !== undefined,
      hasPrefix: textAt(node, 'spec', 'podCIDR') !== undefined
    }))) ?? []
  const nodes = all.filter(({ isLinux }) => isLinux)
  const without = nodes.filter(({ hasPrefix }) => !hasPrefix)
  const [first] = without
  if (first !== undefined && nodes.length === 1)
    return { mode: 'gateway', note: 'The only Linux Node has no spec.podCIDR, so the mode is gateway' }
  if (first !== undefined)
    return {
      mode: 'gateway',
      note:
        `${without.length} of ${nodes.length} Nodes, such as ${first.name}, have no spec.podCIDR, so the mode is gateway: only pods on nodes ` +
        'with the gateway label reach other clusters and are reached by them'
    }
  const named = new Set([...gateways, ...nodes.filter(({ isGateway }) => isGateway).map(({ name }) => name)])
  if (named.size > 0)
    return {
      mode: 'nodes',
      note: `Gateways are named (${[...named].slice(0, SHOWN_MAX).join(', ')}${named.size > SHOWN_MAX ? ', …' : ''}), so the mode is nodes: the pods on all other nodes reach other clusters through them`
    }
  return {
    mode: 'mesh',
    note: 'Every Node has a spec.podCIDR and none is named as a gateway, so the mode is mesh: each node is a gateway, and its TCP and UDP ports must be open to the other clusters'
  }
}

// The note names this many gateways.
const SHOWN_MAX = 3
