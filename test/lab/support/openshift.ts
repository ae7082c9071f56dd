// The two kinds of OpenShift that an installation touches, as custom resources of a plain API server: fields as openshift/api has them, so
// that a misspelt one is refused by strict validation. (The operators behind them are not here.)

export const OPENSHIFT_DEFINITIONS = [
  definition({
    group: 'security.openshift.io',
    plural: 'securitycontextconstraints',
    kind: 'SecurityContextConstraints',
    // This type has no spec.
    properties: {
      ...flags(
        'allowHostNetwork allowHostPorts allowHostDirVolumePlugin allowHostIPC allowHostPID allowPrivilegedContainer allowPrivilegeEscalation readOnlyRootFilesystem'
      ),
      ...lists(
        'allowedCapabilities defaultAddCapabilities requiredDropCapabilities seccompProfiles volumes users groups allowedUnsafeSysctls'
      ),
      runAsUser: {
        type: 'object',
        properties: {
          type: { type: 'string', enum: ['MustRunAs', 'MustRunAsNonRoot', 'MustRunAsRange', 'RunAsAny'] }
        }
      },
      fsGroup: { type: 'object', properties: { type: { type: 'string', enum: ['MustRunAs', 'RunAsAny'] } } },
      supplementalGroups: {
        type: 'object',
        properties: { type: { type: 'string', enum: ['MustRunAs', 'RunAsAny'] } }
      },
      seLinuxContext: {
        type: 'object',
        properties: {
          type: { type: 'string', enum: ['MustRunAs', 'RunAsAny'] },
          seLinuxOptions: { type: 'object', properties: strings('user role type level') }
        }
      }
    }
  }),
  definition({
    group: 'operator.openshift.io',
    plural: 'dnses',
    kind: 'DNS',
    properties: {
      spec: {
        type: 'object',
        properties: {
          ...strings('logLevel managementState'),
          servers: {
            type: 'array',
            items: {
              type: 'object',
              required: ['name', 'zones', 'forwardPlugin'],
              properties: {
                ...strings('name'),
                ...lists('zones'),
                forwardPlugin: {
                  type: 'object',
                  properties: {
                    policy: {
                      type: 'string',
                      enum: ['Random', 'RoundRobin', 'Sequential'],
                      default: 'Random'
                    },
                    upstreams: { type: 'array', maxItems: 15, items: { type: 'string' } }
                  }
                }
              }
            }
          }
        }
      }
    }
  })
]

function definition(of: { group: string; plural: string; kind: string; properties: object }) {
  const { group, plural, kind, properties } = of
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: `${plural}.${group}` },
    spec: {
      group,
      scope: 'Cluster',
      names: { plural, singular: kind.toLowerCase(), kind, listKind: `${kind}List` },
      versions: [
        {
          name: 'v1',
          served: true,
          storage: true,
          schema: { openAPIV3Schema: { type: 'object', properties } }
        }
      ]
    }
  }
}

function strings(names: string): Record<string, object> {
  return Object.fromEntries(names.split(' ').map((name) => [name, { type: 'string' }]))
}

function flags(names: string): Record<string, object> {
  return Object.fromEntries(names.split(' ').map((name) => [name, { type: 'boolean' }]))
}

function lists(names: string): Record<string, object> {
  return Object.fromEntries(
    names.split(' ').map((name) => [name, { type: 'array', items: { type: 'string' } }])
  )
}
