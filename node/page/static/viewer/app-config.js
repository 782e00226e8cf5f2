// Configuration of OHIF 3.13 under /viewer/ (docs/decisions/011-viewer.md), served as /viewer/app-config.js.
//
// It asks one data source, the page's own proxy to the PACS, and nothing else. What it adds: the notice, and the words
// of a CheXNode report beside its regions, which OHIF by itself labels with bare numbers.
(() => {
  'use strict';

  const NOTICE = 'Not for clinical use';
  const MANUFACTURER = 'CheXNode';
  const REGION = ' (evaluated region)';
  // Labels of landmarks closer than this share of the image's height would overlap.
  const NEAR = 0.06;
  // Lines of the summary in the corner of the image.
  const LINES = 16;

  const list = value => (value === undefined || value === null ? [] : Array.isArray(value) ? value : [value]);
  const first = value => list(value)[0];

  // Content items (PS3.3 C.17.3) as OHIF holds them: keywords for attributes, one item or a list of them.
  const conceptOf = item => first(item.ConceptNameCodeSequence)?.CodeValue;
  const named = (group, code) => list(group.ContentSequence).find(item => conceptOf(item) === code);
  const meaning = (group, code) => first(named(group, code)?.ConceptCodeSequence)?.CodeMeaning ?? '';
  const measured = (group, code) => {
    const value = first(named(group, code)?.MeasuredValueSequence);
    return value && { number: Number(first(value.NumericValue)), unit: first(value.MeasurementUnitsCodeSequence) };
  };
  const region = group => list(group.ContentSequence).find(item => item.ValueType === 'SCOORD');
  const imageOf = group => first(first(region(group)?.ContentSequence)?.ReferencedSOPSequence)?.ReferencedSOPInstanceUID;
  const placeOf = group => JSON.stringify([imageOf(group), list(region(group)?.GraphicData)]);
  const heightOf = group => Number(list(region(group)?.GraphicData)[1]);
  const titleOf = group => named(group, '112039')?.TextValue ?? '';
  const isFinding = group => titleOf(group).endsWith(REGION);

  // Measurement groups (TID 1410) of a report.
  const groupsOf = report =>
    list(named(report, '126010')?.ContentSequence).filter(item => conceptOf(item) === '125007' && region(item));

  const distance = group => {
    const measure = measured(group, 'TIP_TO_CARINA');
    if (!measure) {
      return '';
    }
    const millimetres = measure.unit?.CodeValue === 'mm';
    const side = measure.number < 0 ? 'below' : 'above';
    // With the digits that the report has: rounding twice would differ from the page.
    return `${Math.abs(measure.number)} ${millimetres ? 'mm' : 'pixels'} ${side} carina`;
  };

  // The score beside its operating point, as "0.99 ≥ 0.82"; a calibrated one is called what it is.
  const score = group => {
    const value = measured(group, 'MODEL_SCORE');
    const probability = measured(group, '122157');
    const limit = measured(group, 'OPERATING_POINT');
    if (!value && !probability) {
      return '';
    }
    const number = (value ?? probability).number;
    const limited = limit ? ` ${number >= limit.number ? '≥' : '<'} ${limit.number.toFixed(2)}` : '';
    return ` (${value ? '' : 'probability '}${number.toFixed(2)}${limited})`;
  };

  // Lines of the summary on a finding or a device: what was found, and where a device lies.
  const summaryLines = group => {
    const presence = meaning(group, 'PRESENCE');
    const position = meaning(group, 'DEVICE_POSITION').replace('Device position ', 'position ');
    const title = titleOf(group).replace(REGION, '');
    const lines = presence ? [`${title}: ${presence.toLowerCase()}${score(group)}`] : [];
    return position ? [...lines, [`${title}: ${position}`, distance(group)].filter(Boolean).join(', ')] : lines;
  };

  // What is present comes first; last, and first to be left out, what the model cannot tell.
  const rank = group => ['Present', 'Absent', 'Undetermined'].indexOf(meaning(group, 'PRESENCE'));

  const summary = (report, image) => {
    const lines = groupsOf(report)
      .filter(group => !image || imageOf(group) === image)
      .sort((one, other) => rank(one) - rank(other))
      .flatMap(summaryLines);
    const shown = lines.length < LINES ? lines : [...lines.slice(0, LINES - 2), 'More findings are in the report.'];
    return ['CheXNode findings with their scores:', ...shown];
  };

  // What stands beside a region: a few words, and once where several findings were looked for in the same region, since
  // OHIF prints labels of one place over each other; nothing where nothing was found. It prints "label: value".
  const labelsOf = (groups, group, rows) => {
    if (isFinding(group)) {
      const together = groups.filter(each => isFinding(each) && placeOf(each) === placeOf(group));
      const labelled = together[0] === group && together.some(each => meaning(each, 'PRESENCE') === 'Present');
      return labelled ? [{ label: meaning(group, '363698007'), value: 'region' }] : [];
    }
    if (named(group, 'PRESENCE')) {
      return [{ label: titleOf(group), value: meaning(group, 'DEVICE_POSITION').replace('Device position ', '') }];
    }
    if (titleOf(group).endsWith(' tip')) {
      const device = groups.find(each => named(each, 'TIP_TO_CARINA') && imageOf(each) === imageOf(group));
      return [{ label: 'Tip', value: device ? distance(device) : '' }];
    }
    // At a tip beside the carina the tip's label says it, and there is no room for both.
    const tip = groups.find(each => titleOf(each).endsWith(' tip') && imageOf(each) === imageOf(group));
    const apart = tip ? Math.abs(heightOf(tip) - heightOf(group)) : Infinity;
    return apart < NEAR * rows ? [] : [{ label: titleOf(group), value: 'landmark' }];
  };

  window.config = ({ servicesManager }) => {
    const { services } = servicesManager;
    const isOwnReport = displaySet => displaySet?.Modality === 'SR' && displaySet.instance?.Manufacturer === MANUFACTURER;

    const rowsOf = uid =>
      services.displaySetService
        .getActiveDisplaySets()
        .flatMap(each => list(each.images ?? each.instances))
        .find(each => each.SOPInstanceUID === uid)?.Rows ?? 0;

    const onBeforeSRAddMeasurement = ({ measurement, SeriesInstanceUID }) => {
      const displaySet = list(services.displaySetService.getDisplaySetsForSeries(SeriesInstanceUID)).find(isOwnReport);
      if (!displaySet) {
        return measurement;
      }
      // To be looked at, not to be taken over as measurements of the reader's own: OHIF would put probes in their place.
      displaySet.isRehydratable = false;
      const groups = groupsOf(displaySet.instance);
      const group = groups.find(each => named(each, '112040')?.UID === measurement.TrackingUniqueIdentifier);
      if (group) {
        measurement.labels = labelsOf(groups, group, rowsOf(imageOf(group)));
      }
      return measurement;
    };

    // The summary of the report that a viewport shows; none in other viewports.
    const summaryOf = ({ viewportId, instance, referenceInstance }) => {
      const viewport = services.viewportGridService.getState().viewports.get(viewportId);
      const report = list(viewport?.displaySetInstanceUIDs)
        .map(uid => services.displaySetService.getDisplaySetByUID(uid))
        .find(isOwnReport);
      return report ? summary(report.instance, (instance ?? referenceInstance)?.SOPInstanceUID) : [];
    };
    const summaryItems = Array.from({ length: LINES }, (_, line) => ({
      id: `chexnodeSummary${line}`,
      inheritsFrom: 'ohif.overlayItem',
      title: 'CheXNode report',
      condition: props => line < summaryOf(props).length,
      contentF: props => summaryOf(props)[line] ?? '',
    }));
    const noticeItem = { id: 'chexnodeNotice', inheritsFrom: 'ohif.overlayItem', title: 'Notice', contentF: () => NOTICE };

    return {
      name: 'chexnode',
      routerBasename: '/viewer',
      extensions: [],
      modes: [],
      // The list of studies is the page's own.
      showStudyList: false,
      customizationService: [
        {
          onBeforeSRAddMeasurement: { $set: onBeforeSRAddMeasurement },
          'viewportOverlay.topLeft': { $push: summaryItems },
          'viewportOverlay.bottomRight': { $unshift: [noticeItem] },
          'ohif.tours': { $set: [] },
        },
      ],
      whiteLabeling: {
        createLogoComponentFn: React =>
          React.createElement(
            'a',
            { href: '/', style: { display: 'block', lineHeight: 1.25, width: 180 } },
            React.createElement('span', { style: { color: '#fff', fontSize: 14 } }, '← CheXNode worklist'),
            React.createElement('br'),
            React.createElement('span', { style: { color: '#ffd54f', fontSize: 13 } }, NOTICE)
          ),
      },
      // Said at all times in the header and on every image instead.
      investigationalUseDialog: { option: 'never' },
      // A segmentation that was asked for is shown without asking again.
      disableConfirmationPrompts: true,
      maxNumberOfWebWorkers: 3,
      showWarningMessageForCrossOrigin: false,
      showLoadingIndicator: true,
      strictZSpacingForVolumeViewport: true,
      maxNumRequests: { interaction: 100, thumbnail: 5, prefetch: 25 },
      defaultDataSourceName: 'pacs',
      dataSources: [
        {
          namespace: '@ohif/extension-default.dataSourcesModule.dicomweb',
          sourceName: 'pacs',
          configuration: {
            friendlyName: 'PACS',
            name: 'pacs',
            qidoRoot: '/pacs',
            wadoRoot: '/pacs',
            wadoUriRoot: '/pacs',
            qidoSupportsIncludeField: false,
            imageRendering: 'wadors',
            thumbnailRendering: 'wadors',
            enableStudyLazyLoad: true,
            supportsFuzzyMatching: false,
            supportsWildcard: true,
            supportsReject: false,
            dicomUploadEnabled: false,
            singlepart: 'bulkdata,pdf,video',
            bulkDataURI: { enabled: true, relativeResolution: 'studies' },
            omitQuotationForMultipartRequest: true,
          },
        },
      ],
    };
  };
})();
