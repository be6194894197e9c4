{{ config(materialized='incremental', incremental_strategy='merge', unique_key='day', on_table_exists='replace') }}
select day, count(*) as orders, sum(amount) as amount
from {{ source('shop', 'orders') }}
{% if is_incremental() %}
where day >= (select coalesce(max(day), date '1970-01-01') from {{ this }})
{% endif %}
group by day
